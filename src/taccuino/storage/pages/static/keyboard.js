// The keys that work anywhere on the page, and the dialog that lists them all.

import { answers, openDialog } from "./dialogs.js";
import { button, element } from "./dom.js";

const LISTED = [
  ["↑ ↓ Home End", "Go through the files"],
  ["Enter", "Open the folder, or look at the file"],
  ["Backspace", "Go to the folder above"],
  ["Space", "Select, or not"],
  ["Shift + ↑ ↓", "Select a range"],
  ["Ctrl + A", "Select all"],
  ["Escape", "Select nothing; end the search"],
  ["Shift + a letter", "Go to the next name with it"],
  ["Delete", "Delete"],
  ["z, Ctrl + Z", "Undo"],
  ["F2", "Rename"],
  ["m", "Move"],
  ["d", "Download"],
  ["s", "Share a link"],
  ["u", "Upload files"],
  ["n", "New folder"],
  ["/", "Search"],
  ["Menu, Shift + F10", "All actions"],
  ["?", "These keys"],
];

export function keysDialog() {
  const list = element(
    "dl",
    { class: "st-keys" },
    ...LISTED.flatMap(([key, what]) => [
      element("dt", {}, element("kbd", {}, key)),
      element("dd", {}, what),
    ]),
  );
  const dialog = openDialog("Keys", {
    body: [list, answers(button("Done", { onclick: () => dialog.close() }))],
  });
}

/**
 * Bind keys to what they do: `on[key]()`, "Ctrl+" before the key where Ctrl or Cmd is held.
 * Not while something is typed, and not below a dialog or a menu.
 */
export function bindKeys(on) {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.altKey) return;
    if (document.querySelector("dialog[open], .st-menu")) return;
    const typing = event.target.matches("input:not([type=checkbox]), textarea, select");
    if (typing && event.key !== "Escape") return;
    const control = event.ctrlKey || event.metaKey ? "Ctrl+" : "";
    const act = on[control + (event.key.length === 1 ? event.key.toLowerCase() : event.key)];
    if (!act) return;
    event.preventDefault();
    act();
  });
}
