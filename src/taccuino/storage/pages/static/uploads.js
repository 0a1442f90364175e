// The panel of uploads: how far each file is, and its buttons.

import * as api from "./api.js";
import { announce, button, element, icon } from "./dom.js";
import { ask } from "./dialogs.js";
import { count, duration, inWords, nameOf } from "./format.js";
import { UploadQueue } from "./queue.js";
import { forget, recall, unfinished } from "./unfinished.js";

const MOST_ROWS = 200;
const WORDS = { queued: "Waiting for its turn", paused: "Paused", done: "Uploaded", cancelled: "Cancelled" };

let forAll = null; // an answer that holds for the rest of the queue
let asking = Promise.resolve();

/** Ask what becomes of a file whose name is taken: one question at a time. */
function conflict(transfer) {
  asking = asking.then(async () => {
    if (transfer.ended) return "skip";
    if (forAll) return forAll;
    const all = element("input", { type: "checkbox", class: "st-for-all" });
    const answer = await ask({
      title: `“${nameOf(transfer.key)}” is there already`,
      body: [
        "Replace it with the file that you upload, or keep both? What is replaced stays among its versions where versions are kept.",
        element("label", {}, all, "Do the same for all files of this upload"),
      ],
      choices: [
        { label: "Skip", value: "skip" },
        { label: "Replace", value: "replace" },
        { label: "Keep both", value: "both", look: "st-button-main" },
      ],
    });
    if (all.checked) forAll = answer || "skip";
    return answer || "skip";
  });
  return asking;
}

export const queue = new UploadQueue(conflict);

const rows = new Map(); // transfer -> its row
let folded = false;
let busy = false;
const panel = element("section", { class: "st-uploads", "aria-label": "Uploads", hidden: true });
const title = element("span", {}, "Uploads");
const summary = element("small");
const meter = element("progress", { max: 1, value: 0, "aria-label": "All uploads" });
const listed = element("ul", { tabIndex: 0, "aria-label": "Files" });
const fold = button("Fold", {
  picture: "down",
  look: "st-button-bare",
  words: false,
  "aria-expanded": "true",
  onclick: () => {
    folded = !folded;
    listed.hidden = folded;
    fold.setAttribute("aria-expanded", String(!folded));
    fold.replaceChildren(icon(folded ? "up" : "down"));
  },
});
const close = button("Close", {
  picture: "close",
  look: "st-button-bare",
  words: false,
  onclick: () => {
    dismissed = true;
    queue.clear();
    document.getElementById("main").focus();
  },
});
let dismissed = false;
panel.append(
  element("header", {}, element("h2", {}, title, summary), fold, close),
  meter,
  listed,
);
document.getElementById("uploads").append(panel);

/** Begin to upload files into a folder. */
export function upload(bucket, prefix, files) {
  if (!queue.active) forAll = null;
  dismissed = false;
  queue.add(files.map(({ path, file }) => ({ bucket, key: prefix + path, file })));
}

queue.addEventListener("change", render);

function render() {
  const left = waitingForFiles();
  const { files, done, failed, bytes, sent, speed } = queue.progress;
  panel.hidden = !queue.transfers.length && (dismissed || !left.length);
  const going = queue.active;
  close.hidden = going;
  meter.hidden = !going;
  meter.value = bytes ? sent / bytes : 0;
  title.textContent = heading(going, files, done, failed, left.length);
  summary.textContent = going && speed
    ? `${inWords(Math.round(speed))}/s, ${duration((bytes - sent) / speed)} left`
    : "";
  if (busy && !going && files) announce(title.textContent);
  busy = going;
  const shown = [...queue.transfers]
    .sort((a, b) => a.ended - b.ended)
    .slice(0, MOST_ROWS);
  for (const transfer of shown) {
    if (!rows.has(transfer)) rows.set(transfer, makeRow(transfer));
    rows.get(transfer).show();
  }
  const nodes = [...left.map(unfinishedRow), ...shown.map((transfer) => rows.get(transfer).node)];
  if (!sameNodes(nodes)) listed.replaceChildren(...nodes);
  for (const transfer of rows.keys()) {
    if (!queue.transfers.includes(transfer)) rows.delete(transfer);
  }
}

const sameNodes = (nodes) =>
  nodes.length === listed.children.length && nodes.every((node, i) => node === listed.children[i]);

function heading(going, files, done, failed, left) {
  if (going) return `Uploading ${done + 1 > files ? files : done + 1} of ${count(files, "file")}`;
  if (failed) return `${count(failed, "file")} not uploaded`;
  if (done) return `${count(done, "file")} uploaded`;
  return left ? "Unfinished uploads" : "Uploads";
}

/** @param {import("./transfer.js").Transfer} transfer */
function makeRow(transfer) {
  const name = nameOf(transfer.key);
  const label = element("b", { title: transfer.key }, name);
  const bar = element("progress", { max: 1, "aria-label": name });
  const words = element("small");
  const acts = element("span");
  const node = element("li", {}, element("div", {}, label, bar, words), acts);
  let shownFor = null;
  const bare = (what, picture, onclick) =>
    button(`${what} ${name}`, { picture, look: "st-button-bare", words: false, onclick });
  const buttons = {
    pause: () => bare("Pause", "pause", () => transfer.pause()),
    resume: () => bare("Go on with", "play", () => queue.resume(transfer)),
    retry: () => bare("Try again:", "refresh", () => queue.resume(transfer)),
    now: () => bare("Try now:", "refresh", () => transfer.hurry()),
    cancel: () => bare("Cancel", "close", () => transfer.cancel()),
  };
  const offered = {
    queued: ["cancel"],
    asking: ["cancel"],
    uploading: ["pause", "cancel"],
    waiting: ["now", "pause", "cancel"],
    paused: ["resume", "cancel"],
    failed: ["retry"],
  };
  const show = () => {
    const { state, file, sent, speed } = transfer;
    node.dataset.state = state;
    label.textContent = nameOf(transfer.key);
    bar.hidden = transfer.ended || state === "queued";
    bar.value = file.size ? sent / file.size : 1;
    words.textContent =
      transfer.message ||
      WORDS[state] ||
      `${inWords(sent)} of ${inWords(file.size)}${speed ? `, ${duration((file.size - sent) / speed)} left` : ""}`;
    if (state === shownFor) return;
    shownFor = state;
    const inside = acts.contains(document.activeElement);
    acts.replaceChildren(...(offered[state] || []).map((what) => buttons[what]()));
    if (inside) (acts.firstElementChild || listed).focus();
    if (state === "failed" || state === "waiting") announce(`${name}: ${transfer.message}`);
  };
  return { node, show };
}

/** Uploads of an earlier page, which go on when the same file is chosen again. */
function waitingForFiles() {
  return unfinished().filter(
    (known) =>
      !queue.transfers.some(({ bucket, key }) => bucket === known.bucket && key === known.key),
  );
}

const unfinishedRows = new Map();

function unfinishedRow(known) {
  const id = known.uploadId;
  if (!unfinishedRows.has(id)) {
    const name = nameOf(known.key);
    const drop = button(`Give ${name} up`, {
      picture: "close",
      look: "st-button-bare",
      words: false,
      onclick: () => {
        forget(known.bucket, known.key);
        api.uploads.abort(known.bucket, known.key, id).catch(() => {});
        render();
      },
    });
    const words = "Not finished. Choose the same file again, here, to go on.";
    const again = element(
      "label",
      { class: "st-again" },
      element("small", {}, words),
      element("input", {
        type: "file",
        class: "st-unseen",
        "aria-label": `Choose ${name} again`,
        onchange: ({ target }) => goOn(known, target.files[0], again),
      }),
      element("span", { class: "st-button" }, "Choose the file"),
    );
    const row = element("li", {}, element("div", {}, element("b", {}, name), again), drop);
    unfinishedRows.set(id, row);
  }
  return unfinishedRows.get(id);
}

function goOn(known, file, again) {
  if (file && recall(known.bucket, known.key, file)) {
    queue.add([{ bucket: known.bucket, key: known.key, file }]);
    return;
  }
  again.firstElementChild.textContent = "This is another file, or it has changed since. Choose the same one.";
}

render();
