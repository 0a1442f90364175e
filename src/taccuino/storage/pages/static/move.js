// Choosing a folder of the bucket, to move something there.

import * as api from "./api.js";
import { answers, openDialog } from "./dialogs.js";
import { announce, button, element, icon } from "./dom.js";
import { count, nameOf, parentOf } from "./format.js";
import { mayWrite, titleOf } from "./places.js";

/**
 * Ask for a folder; null if none was chosen.
 * @returns {Promise<string|null>}
 */
export function chooseFolder(place, items, start) {
  return new Promise((resolve) => {
    let chosen = null;
    let prefix = start;
    let turn = 0;
    const title = items.length === 1 ? `Move “${nameOf(items[0].key)}”` : `Move ${count(items.length, "item")}`;
    const where = element("p", { role: "status" });
    const box = element("div", { class: "st-folders", role: "group", "aria-label": "Folders" });
    const here = button("Move here", {
      look: "st-button-main",
      onclick: () => {
        chosen = prefix;
        dialog.close();
      },
    });
    const cancel = button("Cancel", { onclick: () => dialog.close() });
    const moved = new Set(items.map(({ key }) => key));

    const folder = (key, name, picture) =>
      element("button", { type: "button", onclick: () => show(key) }, icon(picture), name);

    async function show(key) {
      prefix = key;
      const mine = (turn += 1);
      where.textContent = `To: ${[titleOf(place), ...key.split("/").filter(Boolean)].join(" / ")}`;
      here.disabled = !mayWrite(place, key) || items.every((item) => parentOf(item.key) === key);
      const up = key > place.write_prefix ? [folder(parentOf(key), "The folder above", "up")] : [];
      try {
        const folders = await all(place.name, key);
        if (mine !== turn) return;
        const rest = folders
          .filter((found) => !moved.has(found.key))
          .map((found) => folder(found.key, found.name, "folder"));
        const none = element("p", { class: "tc-hint" }, "There is no folder in here.");
        const inside = box.contains(document.activeElement);
        box.replaceChildren(...up, ...(rest.length ? rest : [none]));
        if (inside) box.querySelector("button")?.focus();
        announce(count(rest.length, "folder"));
      } catch (error) {
        if (mine === turn) box.replaceChildren(...up, element("p", { class: "st-fault" }, error.message));
      }
    }

    const dialog = openDialog(title, { body: [where, box, answers(cancel, here)] });
    dialog.addEventListener("close", () => resolve(chosen));
    show(start).then(() => box.querySelector("button")?.focus());
  });
}

async function all(bucket, prefix) {
  const found = [];
  let next = null;
  do {
    const told = await api.list(bucket, prefix, next);
    found.push(...told.folders);
    next = told.next;
  } while (next);
  return found;
}
