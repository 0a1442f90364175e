// Addresses: browse/<bucket>/<folders>/ with ?file= (looked at), ?q= (searched), ?view=deleted.

import { page } from "./page.js";

/**
 * @typedef {{bucket: string, prefix: string, file: string|null, q: string, view: string}} Route
 */

const BROWSE = `${page.prefix}browse/`;

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** The route of the address bar; bucket "" where it names none. @returns {Route} */
export function here() {
  const path = location.pathname.startsWith(BROWSE) ? location.pathname.slice(BROWSE.length) : "";
  const [bucket, ...folders] = path.split("/").map(decoded);
  const query = new URLSearchParams(location.search);
  const prefix = folders.join("/");
  return {
    bucket,
    prefix: prefix && !prefix.endsWith("/") ? `${prefix}/` : prefix,
    file: query.get("file"),
    q: query.get("q") || "",
    view: query.get("view") || "",
  };
}

/** The address of a route. @param {Partial<Route>} route */
export function addressOf({ bucket, prefix = "", file = null, q = "", view = "" }) {
  const path = [bucket, ...prefix.split("/")].map(encodeURIComponent).join("/");
  const query = new URLSearchParams();
  if (view) query.set("view", view);
  if (q) query.set("q", q);
  if (file) query.set("file", file);
  return `${BROWSE}${path}${query.size ? `?${query}` : ""}`;
}

let follow = () => {};

/** Tell whom to call with each new route. */
export function onRoute(listener) {
  follow = listener;
  addEventListener("popstate", () => follow(here(), "back"));
}

/** Go to a route, as a new entry of the history or in place of the current one. */
export function go(route, { replace = false } = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", addressOf(route));
  follow(here(), "go");
}

/** Whether a click is the browser's own business: a new tab, or a new window. */
export function isBrowsers(event) {
  return event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey;
}
