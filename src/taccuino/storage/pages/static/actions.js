// What is done with files: each with its words, its undo, and its failures told.

import * as api from "./api.js";
import { answers, askName, confirmed, linkField, openDialog } from "./dialogs.js";
import { announce, button, element } from "./dom.js";
import { count, nameFault, nameOf, parentOf } from "./format.js";
import { jupyterAddress, page } from "./page.js";
import { tellFailure, toast } from "./toasts.js";

const DOWNLOAD_GAP_MS = 400; // browsers drop downloads that begin at one moment

let lastUndo = null;

const quoted = (items) =>
  items.length === 1 ? `“${nameOf(items[0].key)}”` : count(items.length, "item");

/** Say that something was done, and offer to undo it: also by the keyboard. */
function done(text, undo) {
  const once = async () => {
    if (lastUndo === once) lastUndo = null;
    try {
      await undo();
    } catch (error) {
      tellFailure(error);
    }
  };
  lastUndo = undo ? once : null;
  toast(text, undo ? { action: "Undo", act: once } : {});
}

/** Undo what was done last, if that can be. */
export function undoLast() {
  if (lastUndo) lastUndo();
  else announce("There is nothing to undo.");
}

/** Show that something is on its way, if it takes longer than a moment. */
async function during(text, work) {
  let close = () => {};
  const timer = setTimeout(() => (close = toast(text, { keep: true })), 600);
  try {
    return await work;
  } finally {
    clearTimeout(timer);
    close();
  }
}

/** Delete; at once where that can be undone, else after a question. */
export async function remove(place, items, changed) {
  if (!items.length) return;
  const what = quoted(items);
  if (!place.versioned) {
    const text = "This bucket keeps no earlier versions: what is deleted is gone for good.";
    if (!(await confirmed(`Delete ${what}?`, text, "Delete"))) return;
  }
  try {
    const keys = items.map(({ key }) => key);
    const told = await during(`${what} is being deleted…`, api.remove(place.name, keys));
    await changed();
    if (told.failed?.length) {
      const [first] = told.failed;
      const many = count(told.failed.length, "file");
      toast(`${many} could not be deleted: ${nameOf(first.key)}: ${first.message}`, { level: "bad" });
      return;
    }
    const back = async () => {
      await api.undo(told.undo);
      await changed(keys[0]);
      announce(`${what} is back.`);
    };
    done(`${what} deleted.`, told.undo && back);
  } catch (error) {
    tellFailure(error);
    await changed();
  }
}

export function rename(place, item, changed) {
  const old = nameOf(item.key);
  const keyOf = (name) => parentOf(item.key) + name + (item.folder ? "/" : "");
  askName({
    title: `Rename “${old}”`,
    label: "New name",
    value: old,
    done: "Rename",
    fault: nameFault,
    act: async (name) => {
      const key = keyOf(name);
      await during(`“${old}” is being renamed…`, api.move(place.name, item.key, key));
      const back = async () => {
        await api.move(place.name, key, item.key);
        await changed(item.key);
      };
      return async () => {
        await changed(key);
        done(`Renamed to “${name}”.`, back);
      };
    },
  });
}

export function makeFolder(place, prefix, changed) {
  askName({
    title: "New folder",
    label: "Name",
    done: "Make it",
    fault: nameFault,
    act: async (name) => {
      await api.makeFolder(place.name, `${prefix}${name}/`);
      return async () => {
        await changed(`${prefix}${name}/`);
        announce(`Folder ${name} made.`);
      };
    },
  });
}

/** Move items into another folder of the bucket; what can't be moved is named. */
export async function moveInto(place, items, folder, changed) {
  const pairs = items
    .map(({ key }) => [key, `${folder}${nameOf(key)}${key.endsWith("/") ? "/" : ""}`])
    .filter(([from, to]) => from !== to);
  if (!pairs.length) return;
  const moved = [];
  try {
    for (const pair of pairs) {
      await during(`${quoted(items)} is being moved…`, api.move(place.name, ...pair));
      moved.push(pair);
    }
  } catch (error) {
    tellFailure(error, `“${nameOf(pairs[moved.length][0])}” was not moved.`);
  }
  await changed();
  if (!moved.length) return;
  const where = folder ? `“${nameOf(folder)}”` : "the bucket itself";
  const what = moved.length === 1 ? `“${nameOf(moved[0][0])}”` : count(moved.length, "item");
  done(`${what} moved to ${where}.`, async () => {
    for (const [from, to] of moved) await api.move(place.name, to, from);
    await changed(moved[0][0]);
  });
}

/** Download files each, and folders as zip files. */
export async function download(place, items) {
  for (const [i, { key, folder }] of items.entries()) {
    if (i) await new Promise((resolve) => setTimeout(resolve, DOWNLOAD_GAP_MS));
    const href = folder ? api.zipAddress(place.name, key) : api.downloadAddress(place.name, key);
    save(href);
  }
  announce(`Download of ${quoted(items)} begins.`);
}

/** Let the browser keep what is at an address. */
export function save(href) {
  const link = element("a", { href, download: "", hidden: true });
  document.body.append(link);
  link.click();
  link.remove();
}

/** Copy to the user's part of scratch, and show the link that others open in their servers. */
export async function toScratch(place, item) {
  const name = nameOf(item.key);
  try {
    const told = await during(`“${name}” is being copied…`, api.toScratch(place.name, item.key));
    const dialog = openDialog(`“${name}” is in scratch`, {
      body: [
        element(
          "p",
          {},
          `Everyone here can read cloud_storage/scratch/${told.key}. Give them this link: it opens the copy in their own server.`,
        ),
        linkField(told.link, "Link to the copy"),
        answers(button("Done", { look: "st-button-main", onclick: () => dialog.close() })),
      ],
    });
    dialog.querySelector(".st-pair button").click(); // it is copied already
  } catch (error) {
    tellFailure(error);
  }
}

export function openInJupyter(place, item) {
  open(jupyterAddress(place, item.key), "_blank", "noopener");
}

/** What may be done with items: for the menu and the bar above the table. */
export function actionsFor(place, items, { may, changed, share, versions, move, view }) {
  const [item] = items;
  const one = items.length === 1;
  const file = one && !item.folder;
  const writable = items.every(({ key }) => may(key));
  const sharable = file && page.shareDays > 0;
  return [
    file && { id: "view", label: "Preview", picture: "text", key: "Enter", act: () => view(item) },
    one && { id: "jupyter", label: "Open in Jupyter", picture: "jupyter", act: () => openInJupyter(place, item) },
    { id: "download", label: one && item.folder ? "Download as zip" : "Download", picture: "download", key: "D", act: () => download(place, items) },
    null,
    sharable && { id: "share", label: "Share a link", picture: "share", key: "S", act: () => share(item) },
    one && place.kind !== "scratch" && { id: "scratch", label: "Copy to scratch", picture: "people", act: () => toScratch(place, item) },
    null,
    writable && one && { id: "rename", label: "Rename", picture: "rename", key: "F2", act: () => rename(place, item, changed) },
    writable && { id: "move", label: "Move", picture: "move", key: "M", act: () => move(items) },
    file && place.versioned && { id: "versions", label: "Versions", picture: "clock", act: () => versions(item) },
    null,
    writable && { id: "delete", label: "Delete", picture: "trash", key: "Del", act: () => remove(place, items, changed) },
  ].filter((action) => action !== false);
}

/** Without lines that stand at an end or at another. */
export function tidied(actions) {
  return actions.filter(
    (action, i) => action || (actions.slice(0, i).some(Boolean) && actions[i + 1]),
  );
}
