// The buckets at the side, the way to the current folder, and how full the bucket is.

import * as api from "./api.js";
import { confirmed } from "./dialogs.js";
import { button, element, icon } from "./dom.js";
import { inWords } from "./format.js";
import { page } from "./page.js";
import { addressOf, go, isBrowsers } from "./route.js";
import { tellFailure, toast } from "./toasts.js";

const PICTURES = { own: "bucket", scratch: "people", group: "people" };
const NEARLY = 90; // percent

/** @typedef {{name: string, directory: string, kind: string, writable: boolean,
 *   write_prefix: string, versioned: boolean, used_bytes: number|null,
 *   quota_bytes: number|null, objects: number|null}} Place */

/** Whether the user may write at a key. @param {Place} place */
export function mayWrite(place, key) {
  return place.writable && key.startsWith(place.write_prefix);
}

/** What a bucket is called on the page. @param {Place} place */
export const titleOf = (place) => (place.kind === "own" ? "My files" : place.directory);

function link(route, properties, ...children) {
  const follow = (event) => {
    if (isBrowsers(event)) return;
    event.preventDefault();
    go(route);
  };
  return element("a", { href: addressOf(route), onclick: follow, ...properties }, ...children);
}

/** @param {Place[]} places @param {import("./route.js").Route} route */
export function showPlaces(places, route, openLinks) {
  const current = (is) => (is ? "page" : null);
  const items = places.map((place) =>
    link(
      { bucket: place.name },
      { class: "st-place", "aria-current": current(place.name === route.bucket && !route.view) },
      icon(PICTURES[place.kind]),
      element("span", {}, titleOf(place)),
      place.writable ? null : element("small", {}, "read only"),
    ),
  );
  const here = places.find(({ name }) => name === route.bucket);
  const more = [];
  if (here?.versioned && here.writable) {
    more.push(
      link(
        { bucket: route.bucket, view: "deleted" },
        { class: "st-place", "aria-current": current(route.view === "deleted") },
        icon("trash"),
        element("span", {}, "Deleted files"),
      ),
    );
  }
  if (page.shareDays) {
    const open = (event) => (event.preventDefault(), openLinks());
    more.push(
      element(
        "a",
        { class: "st-place", href: "#links", role: "button", onclick: open },
        icon("share"),
        element("span", {}, "My links"),
      ),
    );
  }
  const list = (nodes) => element("ul", {}, ...nodes.map((node) => element("li", {}, node)));
  document
    .getElementById("places")
    .replaceChildren(list(items), element("hr"), list(more));
}

/** @param {Place} place @param {import("./route.js").Route} route */
export function showCrumbs(place, route, listing) {
  const parts = route.prefix.split("/").filter(Boolean);
  const steps = [{ name: titleOf(place), prefix: "" }];
  for (const name of parts) {
    steps.push({ name, prefix: `${steps.at(-1).prefix}${name}/` });
  }
  const items = steps.map(({ name, prefix }, i) => {
    const last = i === steps.length - 1;
    const crumb = link(
      { bucket: place.name, prefix },
      { "aria-current": last && !route.q && !route.view ? "page" : null },
      name,
    );
    if (!last && mayWrite(place, prefix)) listing.takesMoved(crumb, prefix);
    return element("li", {}, crumb);
  });
  document.getElementById("crumbs").replaceChildren(element("ol", {}, ...items));
}

/** @param {Place} place @param {() => void} changed called when there is more room */
export function showUsage(place, changed) {
  const box = document.getElementById("usage");
  box.replaceChildren();
  if (place.used_bytes === null) return;
  const used = inWords(place.used_bytes);
  box.append(element("h2", {}, "Storage"));
  if (!place.quota_bytes) {
    box.append(element("p", { class: "tc-hint" }, `${used} used`));
    return;
  }
  const percent = Math.floor((place.used_bytes / place.quota_bytes) * 100);
  const level = percent >= 100 ? "full" : percent >= NEARLY ? "nearly" : "fine";
  const words = `${used} of ${inWords(place.quota_bytes)} used`;
  const bar = element("span");
  bar.style.width = `${Math.min(100, percent)}%`;
  const meter = element(
    "div",
    {
      class: "tc-meter",
      role: "meter",
      "data-level": level,
      "aria-label": `How full ${titleOf(place)} is`,
      "aria-valuemin": "0",
      "aria-valuemax": "100",
      "aria-valuenow": String(Math.min(100, percent)),
      "aria-valuetext": words,
    },
    bar,
  );
  const advice = {
    full: "It is full: no more can be uploaded. Delete what you no longer need, and free its space.",
    nearly: "It is nearly full.",
  }[level];
  box.append(meter, element("p", { class: "tc-hint" }, words));
  if (advice) box.append(element("p", { class: "tc-message tc-message-warning" }, advice));
  if (place.versioned && place.writable) {
    box.append(
      button("Free space", {
        "aria-description": "Drops earlier versions and deleted files",
        onclick: () => free(place, changed),
      }),
    );
  }
}

async function free(place, changed) {
  const sure = await confirmed(
    `Free space in ${titleOf(place)}?`,
    "Earlier versions and deleted files also take room. They are dropped now and for good; " +
      "the files that you see stay as they are.",
    "Drop them",
  );
  if (!sure) return;
  const close = toast("Earlier versions and deleted files are being dropped…", { keep: true });
  try {
    const { freed_bytes: freed } = await api.purge(place.name);
    toast(freed ? `${inWords(freed)} freed.` : "There was nothing to drop.");
    changed();
  } catch (error) {
    tellFailure(error);
  } finally {
    close();
  }
}
