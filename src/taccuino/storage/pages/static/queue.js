// All uploads of the page: what runs, what waits for its turn, and how far the whole is.

import { Transfer } from "./transfer.js";

const AT_ONCE = 3; // files
const NOTICE_MS = 250;

/** Dispatches "change" (at most four times a second) and "arrived" for each file. */
export class UploadQueue extends EventTarget {
  /** @param {(transfer: Transfer) => Promise<"replace"|"both"|"skip">} conflict */
  constructor(conflict) {
    super();
    /** @type {Transfer[]} */
    this.transfers = [];
    this.conflict = conflict;
    this.running = new Set();
    this.timer = null;
    addEventListener("online", () => this.hurry());
    document.addEventListener("visibilitychange", () => document.hidden || this.hurry());
    addEventListener("beforeunload", (event) => {
      if (this.active) event.preventDefault();
    });
  }

  /** Whether leaving the page would interrupt something. */
  get active() {
    return this.transfers.some((transfer) => !transfer.ended);
  }

  /** @param {{bucket: string, key: string, file: File}[]} files */
  add(files) {
    for (const { bucket, key, file } of files) {
      const going = this.transfers.find(
        (transfer) => !transfer.ended && transfer.bucket === bucket && transfer.key === key,
      );
      if (going) continue; // the same drop, made twice
      const transfer = new Transfer(bucket, key, file, this.conflict);
      transfer.addEventListener("change", () => this.#noticed(transfer));
      this.transfers.push(transfer);
    }
    this.#next();
    this.#notice();
  }

  hurry() {
    for (const transfer of this.transfers) transfer.hurry();
  }

  /** Go on with one that was paused or has failed. */
  resume(transfer) {
    transfer.enter("queued");
    this.#next();
  }

  /** Take those that have ended off the list. */
  clear() {
    this.transfers = this.transfers.filter((transfer) => !transfer.ended);
    this.#notice();
  }

  /** Bytes and files of the whole. */
  get progress() {
    const counted = this.transfers.filter(({ state }) => state !== "cancelled");
    const sum = (of) => counted.reduce((total, transfer) => total + of(transfer), 0);
    return {
      files: counted.length,
      done: counted.filter(({ state }) => state === "done").length,
      failed: counted.filter(({ state }) => state === "failed").length,
      bytes: sum(({ file }) => file.size),
      sent: sum((transfer) => (transfer.state === "done" ? transfer.file.size : transfer.sent)),
      speed: sum(({ speed }) => speed),
    };
  }

  #noticed(transfer) {
    if (transfer.state === "done" && !transfer.told) {
      transfer.told = true;
      this.dispatchEvent(new CustomEvent("arrived", { detail: transfer }));
    }
    this.#notice();
  }

  #notice() {
    this.timer ??= setTimeout(() => {
      this.timer = null;
      this.dispatchEvent(new Event("change"));
    }, NOTICE_MS);
  }

  #next() {
    for (const transfer of this.transfers) {
      if (this.running.size >= AT_ONCE) return;
      if (transfer.state !== "queued" || this.running.has(transfer)) continue;
      this.running.add(transfer);
      transfer.run().finally(() => {
        this.running.delete(transfer);
        this.#next();
      });
    }
  }
}
