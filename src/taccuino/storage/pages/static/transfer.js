// The upload of one file: in parts, several at once, which a cut of the network does not lose.

import { CallFailed, uploads } from "./api.js";
import { numbered } from "./format.js";
import { forget, recall, remember } from "./unfinished.js";

const AT_ONCE = 4; // parts of one file
const STALLED_MS = 60_000; // without a byte; then the part is sent again
const LONGEST_WAIT_MS = 30_000;
const URLS_AHEAD = 16;
const MOST_REFUSALS = 3;
const SPEED_MS = 5000;

/** Pausing and cancelling end what is going on. */
class Ended extends Error {}

/** @typedef {"queued"|"asking"|"uploading"|"waiting"|"paused"|"done"|"failed"|"cancelled"} State */

/**
 * One file on its way. Dispatches "change" events.
 *
 * `conflict(transfer)` is asked where there is a file of this name already; it answers with
 * "replace", "both" or "skip".
 */
export class Transfer extends EventTarget {
  constructor(bucket, key, file, conflict) {
    super();
    Object.assign(this, { bucket, key, file, conflict });
    /** @type {State} */
    this.state = "queued";
    this.message = "";
    this.replace = false;
    this.whole = 0; // bytes of parts that have arrived
    this.flying = new Map(); // XMLHttpRequest -> bytes of it that are sent
    this.samples = []; // [ms, bytes]
    this.wake = null;
    this.broken = false; // one part has failed for good: the others end
  }

  /** Bytes that were sent. */
  get sent() {
    let sent = this.whole;
    for (const bytes of this.flying.values()) sent += bytes;
    return Math.min(sent, this.file.size);
  }

  /** Bytes a second, of late. */
  get speed() {
    const [first, last] = [this.samples[0], this.samples.at(-1)];
    if (!first || last[0] - first[0] < 200) return 0;
    return Math.max(0, ((last[1] - first[1]) * 1000) / (last[0] - first[0]));
  }

  get ended() {
    return ["done", "failed", "cancelled"].includes(this.state);
  }

  enter(state, message = "") {
    if (this.state === "cancelled") return;
    Object.assign(this, { state, message });
    if (state !== "uploading") this.samples = [];
    this.dispatchEvent(new Event("change"));
  }

  /** Upload it, to the end or to a pause. */
  async run() {
    this.enter("uploading");
    try {
      await this.#upload();
      forget(this.bucket, this.key);
      this.enter("done");
    } catch (error) {
      if (error instanceof Ended) return;
      this.enter("failed", error instanceof CallFailed ? error.message : unreadable(error));
    } finally {
      this.#land();
    }
  }

  pause() {
    this.enter("paused");
    this.#land();
  }

  /** Give it up; what has arrived is dropped. */
  cancel() {
    const known = recall(this.bucket, this.key, this.file);
    this.enter("cancelled");
    this.#land();
    forget(this.bucket, this.key);
    // What is left behind is cleaned up by the storage, too.
    if (known) uploads.abort(this.bucket, this.key, known.uploadId).catch(() => {});
  }

  /** Do not wait any longer before the next try. */
  hurry() {
    this.wake?.();
  }

  #land() {
    for (const request of this.flying.keys()) request.abort();
    this.flying.clear();
    this.wake?.();
  }

  #goesOn() {
    if (this.broken || this.state === "paused" || this.ended) throw new Ended();
  }

  async #upload() {
    for (let tries = 0; ; tries += 1) {
      const begun = await this.#begun();
      try {
        if (begun.url) await this.#putWhole(begun.url);
        else await this.#putParts(begun);
        return;
      } catch (error) {
        // The upload has ended meanwhile, or the address of a small file has: once more.
        const anew = error instanceof CallFailed && (error.status === 404 || error.status === 403);
        if (!anew || error.reason === "full" || tries >= MOST_REFUSALS) throw error;
        forget(this.bucket, this.key);
      }
    }
  }

  /** What goes on, or a new upload. */
  async #begun() {
    const { bucket, file } = this;
    const known = recall(bucket, this.key, file);
    if (known) {
      const parts = await this.#insist(() =>
        uploads.parts(bucket, this.key, known.uploadId, file.size).catch((error) => {
          if (error.status === 404) return null;
          throw error;
        }),
      );
      if (parts) return { id: known.uploadId, partSize: known.partSize, parts: parts.parts };
      forget(bucket, this.key);
    }
    const wanted = this.key;
    for (let number = 2; ; number += 1) {
      try {
        const begun = await this.#insist(() =>
          uploads.begin(bucket, this.key, file.size, file.type, !this.replace),
        );
        if (!begun.upload_id) return { url: begun.url };
        const [uploadId, partSize] = [begun.upload_id, begun.part_size];
        const { size, lastModified } = file;
        remember({ bucket, key: this.key, size, lastModified, uploadId, partSize, at: Date.now() });
        return { id: uploadId, partSize, parts: [] };
      } catch (error) {
        if (error.reason !== "exists") throw error;
        await this.#settle(wanted, number);
      }
    }
  }

  async #settle(wanted, number) {
    if (this.answer !== "both") {
      this.enter("asking", "There is a file of this name already.");
      this.answer = await this.conflict(this);
      this.#goesOn();
      this.enter(this.answer === "skip" ? "cancelled" : "uploading");
      this.#goesOn();
    }
    if (this.answer === "replace") this.replace = true;
    else {
      const slash = wanted.lastIndexOf("/") + 1;
      this.key = wanted.slice(0, slash) + numbered(wanted.slice(slash), number);
    }
  }

  async #putWhole(url) {
    await this.#insist(() => this.#put(url, this.file));
    this.whole = this.file.size;
  }

  async #putParts({ id, partSize, parts }) {
    const { bucket, key, file } = this;
    this.broken = false;
    const etags = new Map(parts.map((part) => [part.number, part.etag]));
    this.whole = parts.reduce((sum, part) => sum + part.size, 0);
    const left = [];
    for (let number = 1; number <= Math.ceil(file.size / partSize); number += 1) {
      if (!etags.has(number)) left.push(number);
    }
    let urls = {};
    let asked = null;
    const addressOf = async (number) => {
      while (!urls[number]) {
        asked ??= uploads
          .urls(bucket, key, id, [number, ...left.slice(0, URLS_AHEAD)])
          .then((fresh) => (urls = { ...urls, ...fresh }))
          .finally(() => (asked = null));
        await asked;
      }
      return urls[number];
    };
    let failure = null;
    const worker = async () => {
      while (left.length && !failure) {
        const number = left.shift();
        const blob = file.slice((number - 1) * partSize, number * partSize);
        let refusals = 0;
        const etag = await this.#insist(async () => {
          try {
            return await this.#put(await addressOf(number), blob);
          } catch (error) {
            // An address holds for an hour: a later one may be taken.
            const old = error.status === 403 && !error.reason && (refusals += 1) < MOST_REFUSALS;
            if (!old) throw error;
            delete urls[number];
            return this.#put(await addressOf(number), blob);
          }
        });
        this.whole += blob.size;
        etags.set(number, etag);
      }
    };
    const stopAll = (error) => {
      failure ??= error;
      this.broken = true;
      this.#land();
    };
    await Promise.all(Array.from({ length: AT_ONCE }, () => worker().catch(stopAll)));
    this.broken = false;
    if (failure) throw failure;
    const joined = [...etags].map(([number, etag]) => ({ number, etag }));
    await this.#insist(() => uploads.complete(bucket, key, id, joined));
  }

  /** Send some bytes; their ETag. */
  #put(url, blob) {
    this.#goesOn();
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest(); // fetch tells nothing of its progress
      let stalled;
      const watch = () => {
        clearTimeout(stalled);
        stalled = setTimeout(() => request.abort(), STALLED_MS);
      };
      const { pathname, search } = new URL(url, location.href);
      request.open("PUT", pathname + search);
      this.flying.set(request, 0);
      request.upload.onprogress = ({ loaded }) => {
        watch();
        if (this.flying.has(request)) this.flying.set(request, loaded);
        this.#sample();
      };
      request.onload = () => {
        const etag = request.getResponseHeader("ETag");
        if (request.status === 200 && etag) resolve(etag.replaceAll('"', ""));
        else reject(refusal(request));
      };
      request.onerror = () => reject(new CallFailed("The object storage can't be reached."));
      request.onabort = () => reject(new CallFailed("Nothing arrived for a minute."));
      request.onloadend = () => {
        clearTimeout(stalled);
        this.flying.delete(request);
      };
      watch();
      request.send(blob);
    });
  }

  #sample() {
    const now = performance.now();
    this.samples.push([now, this.sent]);
    while (this.samples[0][0] < now - SPEED_MS) this.samples.shift();
    if (this.state === "waiting") this.enter("uploading");
    this.dispatchEvent(new Event("change"));
  }

  /** Do it until it is done: what passes is waited for, however long it takes. */
  async #insist(work) {
    for (let tries = 0; ; tries += 1) {
      this.#goesOn();
      try {
        const done = await work();
        this.#goesOn();
        if (this.state === "waiting") this.enter("uploading");
        return done;
      } catch (error) {
        this.#goesOn();
        const login = error.reason === "login";
        if (!(error instanceof CallFailed) || !(error.passing || login)) throw error;
        const why = login
          ? "Your login has ended. Log in again, and it goes on."
          : navigator.onLine
            ? error.message
            : "You are offline.";
        this.enter("waiting", login ? why : `${why} It goes on by itself.`);
        await this.#wait(Math.min(LONGEST_WAIT_MS, 1000 * 2 ** tries) * (0.75 + Math.random() / 2));
      }
    }
  }

  #wait(ms) {
    return new Promise((resolve) => {
      const before = this.wake;
      const timer = setTimeout(() => this.wake?.(), ms);
      this.wake = () => {
        clearTimeout(timer);
        this.wake = null;
        before?.(); // other parts that wait
        resolve();
      };
    });
  }
}

function refusal(request) {
  const code = /<Code>(\w+)<\/Code>/.exec(request.responseText)?.[1];
  if (code === "QuotaExceeded") {
    const message = "The bucket is full. Delete something, or free space, and try again.";
    return new CallFailed(message, { status: 403, reason: "full" });
  }
  return new CallFailed(`The object storage refused it (${code || request.status}).`, {
    status: request.status,
  });
}

function unreadable(error) {
  return error.name === "NotReadableError" || error.name === "NotFoundError"
    ? "The file on your computer has changed, or can't be read any more."
    : `The upload failed: ${error.message}`;
}
