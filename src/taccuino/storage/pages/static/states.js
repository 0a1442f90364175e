// What stands where there is no table: nothing yet, nothing at all, or a failure.

import { button, element, icon } from "./dom.js";
import { page } from "./page.js";

const BONES = 8;

/** The outline of a table that is being read. */
export function skeleton() {
  const rows = Array.from({ length: BONES }, (_, i) => {
    const bone = element("div", { class: "st-bone" });
    bone.style.width = `${30 + ((i * 17) % 45)}%`;
    return element("tr", {}, element("td", {}, bone));
  });
  return element(
    "div",
    { class: "st-sheet", "aria-busy": "true", "aria-label": "Loading", role: "group" },
    element("table", { class: "st-table", "aria-hidden": "true" }, element("tbody", {}, ...rows)),
  );
}

/** What failed, and what can be done about it. */
export function faultMessage(text, ...more) {
  return element(
    "div",
    { class: "st-sheet st-empty" },
    icon("refresh"),
    element("h2", {}, "That did not work"),
    element("p", { id: "fault" }, text),
    ...more,
  );
}

export function emptyMessage(route, place, { writable, pick }) {
  const message = (picture, title, text, ...more) =>
    element(
      "div",
      { class: "st-empty" },
      icon(picture),
      element("h2", {}, title),
      element("p", {}, text),
      ...more,
    );
  if (route.view === "deleted") {
    return message("trash", "Nothing was deleted", `What you delete here can be had back for ${page.keepVersionsDays} days.`);
  }
  if (route.q) {
    return message("file", `Nothing is called “${route.q}”`, "Names are searched in this folder and all below it. Look in a folder further up, or for a shorter part of the name.");
  }
  if (!writable) return message("folder", "This folder is empty", "Nobody has put anything here.");
  if (route.prefix || place.kind !== "own") {
    return message("folder", "This folder is empty", "Drop files or folders here to upload them.", button("Upload files", { picture: "upload", onclick: () => pick(false) }));
  }
  return message(
    "bucket",
    "Your bucket is empty",
    `What you put here is in your notebook servers at cloud_storage/${place.directory}, and the other way round. Drop files or folders anywhere on this page.`,
    button("Upload files", { picture: "upload", look: "st-button-main", onclick: () => pick(false) }),
  );
}

/** What the list of deleted files is. */
export function deletedMessage() {
  return element(
    "p",
    { class: "tc-message tc-message-info" },
    `Deleted files can be restored for ${page.keepVersionsDays} days. Until then they count towards the space that the bucket takes.`,
  );
}
