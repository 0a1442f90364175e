// The calls of the service, one function each. Contract: docs/developers/architecture.md.

import { page } from "./page.js";

/** A call that failed; its message is a sentence for the user. */
export class CallFailed extends Error {
  constructor(message, { status = 0, reason = null } = {}) {
    super(message);
    this.status = status; // 0: nobody answered
    this.reason = reason;
  }

  /** Whether the same call may succeed a little later. */
  get passing() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

let token = document.querySelector("meta[name=xsrf-token]").content;

// After a new login the token is another: the page has it.
async function renewToken() {
  const answer = await fetch(page.prefix, { redirect: "manual" });
  const text = answer.ok ? await answer.text() : "";
  const fresh = new DOMParser().parseFromString(text, "text/html");
  token = fresh.querySelector("meta[name=xsrf-token]")?.content || token;
}

function address(path, query = {}) {
  const said = Object.entries(query).filter(([, value]) => value !== null && value !== undefined);
  const words = new URLSearchParams(said).toString();
  return `${page.prefix}api/${path}${words ? `?${words}` : ""}`;
}

async function call(method, path, { query, body, signal, again = true } = {}) {
  let answer;
  try {
    answer = await fetch(address(path, query), {
      method,
      signal,
      headers: {
        Accept: "application/json",
        "X-XSRFToken": token, // JupyterHub asks for it also where a script only reads
        ...(body ? { "Content-Type": "application/json" } : {}),
      },
      body: body && JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new CallFailed("The service can't be reached. Look at your network connection.");
  }
  if (answer.ok) return answer.status === 204 ? null : answer.json();
  const said = await answer.json().catch(() => ({}));
  if (said.reason === "xsrf" && again) {
    await renewToken();
    return call(method, path, { query, body, signal, again: false });
  }
  const message = said.message || "The service does not answer at the moment. Try again soon.";
  throw new CallFailed(message, { status: answer.status, reason: said.reason });
}

const get = (path, query, signal) => call("GET", path, { query, signal });
const post = (path, body) => call("POST", path, { body });

export const buckets = () => get("buckets").then((told) => told.buckets);
export const list = (bucket, prefix, next, signal) =>
  get("list", { bucket, prefix, token: next }, signal);
export const search = (bucket, prefix, q, signal) => get("search", { bucket, prefix, q }, signal);
export const preview = (bucket, key, signal) => get("preview", { bucket, key }, signal);
export const makeFolder = (bucket, key) => post("folders", { bucket, key });
export const move = (bucket, from, to) => post("move", { bucket, from, to });
export const remove = (bucket, keys) => post("delete", { bucket, keys });
export const undo = (undone) => post("undo", { token: undone });
export const versions = (bucket, key) => get("versions", { bucket, key });
export const restore = (bucket, key, version) => post("restore", { bucket, key, version });
export const deleted = (bucket, prefix, signal) => get("deleted", { bucket, prefix }, signal);
export const purge = (bucket) => post("purge", { bucket });
export const share = (bucket, key, seconds) => post("shares", { bucket, key, seconds });
export const shares = () => get("shares").then((told) => told.shares);
export const revoke = (id) => call("DELETE", `shares/${id}`);
export const toScratch = (bucket, key) => post("scratch", { bucket, key });

export const uploads = {
  begin: (bucket, key, size, type, ifAbsent) =>
    post("uploads", { bucket, key, size, type, if_absent: ifAbsent }),
  parts: (bucket, key, id, size) => get("uploads", { bucket, key, upload_id: id, size }),
  urls: (bucket, key, id, numbers) =>
    post("uploads/urls", { bucket, key, upload_id: id, numbers }).then((told) => told.urls),
  complete: (bucket, key, id, parts) =>
    post("uploads/complete", { bucket, key, upload_id: id, parts }),
  abort: (bucket, key, id) =>
    call("DELETE", "uploads", { query: { bucket, key, upload_id: id } }),
};

/** Where a file, or one of its versions, is downloaded. */
export const downloadAddress = (bucket, key, version) =>
  address("download", { bucket, key, version });
/** Where a folder is downloaded as a zip file. */
export const zipAddress = (bucket, prefix) => address("zip", { bucket, prefix });
