// The page: follows the address, shows the folder, and joins the parts.

import * as actions from "./actions.js";
import * as api from "./api.js";
import { announce, button, element, icon } from "./dom.js";
import { chosen, dropped } from "./dropped.js";
import { count, nameOf, parentOf } from "./format.js";
import { bindKeys, keysDialog } from "./keyboard.js";
import { Listing } from "./listing.js";
import { openMenu } from "./menu.js";
import { chooseFolder } from "./move.js";
import { mayWrite, showCrumbs, showPlaces, showUsage, titleOf } from "./places.js";
import { openPreview } from "./preview.js";
import { addressOf, go, here, onRoute } from "./route.js";
import { linksDialog, shareDialog } from "./sharing.js";
import { tellFailure, toast } from "./toasts.js";
import { queue, upload } from "./uploads.js";
import { versionsDialog } from "./versions.js";
import { deletedMessage, emptyMessage, faultMessage, skeleton } from "./states.js";

const SEARCH_MS = 300;
const SKELETON_MS = 150;
const REFRESH_MS = 400;
const byId = (id) => document.getElementById(id);

/** @type {import("./places.js").Place[]} */
let places = [];
let place = null;
let route = here();
let items = []; // what is listed
let next = null; // the token of the folder's next page
let incomplete = false; // a search or a list of deleted files that was cut short
let loading = new AbortController();
let preview = null;
let focusOn = null; // the key that gets the focus once it is listed

const listing = new Listing({
  open,
  href: (item) =>
    item.folder ? addressOf({ bucket: place.name, prefix: item.key }) : addressOf({ ...route, file: item.key }),
  menu: (some, at, owner) => openMenu(actions.tidied(menuFor(some)), at, owner),
  selection: showToolbar,
  move: (some, folder) => actions.moveInto(place, some, folder, changed),
});

const may = (key) => mayWrite(place, key) && key !== place.write_prefix;
const inFolder = () => !route.q && !route.view;

// ---- What is shown

/** Follow the address; the folder is only read again if it is another one. */
async function follow(to, how) {
  const same =
    place && items && to.bucket === route.bucket && to.prefix === route.prefix && to.q === route.q && to.view === route.view;
  const from = route;
  route = to;
  if (same && how !== "first") return showPreview();
  preview?.close();
  if (how === "back" && from.prefix.startsWith(to.prefix) && from.prefix !== to.prefix) {
    focusOn ??= to.prefix + from.prefix.slice(to.prefix.length).split("/")[0] + "/";
  }
  const hadFocus = how !== "first" && !byId("search").matches(":focus");
  place = places.find(({ name }) => name === route.bucket);
  listing.selectAll(false);
  byId("notice").replaceChildren();
  showFrame();
  await load({ skeletons: true });
  if (hadFocus && items.length) listing.focus(focusOn ?? listing.items[0].key);
  else if (hadFocus) byId("main").focus();
  focusOn = null;
  showPreview();
}

function showFrame() {
  const name = route.prefix ? nameOf(route.prefix) : place ? titleOf(place) : "Files";
  byId("title").textContent = route.view === "deleted" ? `Deleted files in ${name}` : name;
  document.title = document.title.replace(/^.*–/, `${byId("title").textContent} –`);
  showPlaces(places, route, linksDialog);
  byId("search").hidden = !place || Boolean(route.view);
  if (byId("search").value.trim() !== route.q) byId("search").value = route.q;
  if (!place) return;
  showCrumbs(place, route, listing);
  showUsage(place, () => refreshPlaces().then(() => load()));
  showToolbar([]);
}

/** Read what the address names, and list it. */
async function load({ skeletons = false, more = false } = {}) {
  if (!place) {
    const back = button("To my files", { onclick: () => go({ bucket: places[0].name }) });
    byId("view").replaceChildren(faultMessage("There is no such bucket among yours.", back));
    return;
  }
  loading.abort();
  const mine = (loading = new AbortController());
  const timer = skeletons
    ? setTimeout(() => byId("view").replaceChildren(skeleton()), SKELETON_MS)
    : null;
  try {
    const told = await read(mine.signal, more ? next : null);
    if (mine.signal.aborted) return;
    const fresh = [
      ...(told.folders || []).map((folder) => ({ ...folder, folder: true })),
      ...told.files.map((file) => ({ ...file, folder: false, modified: file.modified ?? file.deleted_at })),
    ];
    items = more ? [...items, ...fresh] : fresh;
    next = told.next ?? null;
    incomplete = told.complete === false;
    clearTimeout(timer);
    render();
    if (skeletons) announce(`${byId("title").textContent}: ${count(items.length, "item")}.`);
  } catch (error) {
    if (error.name === "AbortError" || mine.signal.aborted) return;
    clearTimeout(timer);
    fail(error, skeletons);
  }
}

function read(signal, token) {
  if (route.view === "deleted") return api.deleted(place.name, route.prefix, signal);
  if (route.q) return api.search(place.name, route.prefix, route.q, signal);
  return api.list(place.name, route.prefix, token, signal);
}

function fail(error, instead) {
  const login = error.reason === "login";
  const again = login
    ? button("Log in again", { look: "st-button-main", onclick: logIn })
    : button("Try again", { onclick: () => load({ skeletons: true }) });
  if (instead || login) {
    items = [];
    byId("view").replaceChildren(faultMessage(error.message, again));
    announce(error.message);
  } else tellFailure(error);
}

/** In this window; in another one where leaving would interrupt uploads. */
function logIn() {
  if (!queue.active) location.reload();
  else {
    open(`${document.body.dataset.prefix}login`);
    addEventListener("focus", () => (queue.hurry(), load({ skeletons: true })), { once: true });
  }
}

function render() {
  const deleted = route.view === "deleted";
  const foot = [];
  if (next) {
    foot.push(
      `The first ${items.length.toLocaleString()} are listed, and sorted among themselves. `,
      button("Load more", { onclick: (event) => ((event.currentTarget.disabled = true), load({ more: true })) }),
    );
  } else if (incomplete) {
    foot.push("There is more than could be looked through in time. Look in a folder further down.");
  }
  const hadFocus = listing.table.contains(document.activeElement);
  listing.show(items, { where: Boolean(route.q) || deleted, when: deleted ? "Deleted" : "Modified", readOnly: deleted || Boolean(route.q) });
  const sheet = element(
    "div",
    { class: "st-sheet", "data-drop": `Drop to upload to “${byId("title").textContent}”` },
    items.length ? listing.table : emptyMessage(route, place, { writable: mayWrite(place, route.prefix), pick }),
    foot.length ? element("div", { class: "st-foot" }, ...foot) : null,
  );
  byId("view").replaceChildren(...(deleted ? [deletedMessage()] : []), sheet);
  if (hadFocus) items.length ? listing.focus() : byId("main").focus();
  showToolbar(listing.chosen());
  showNotice();
}

/** Why nothing can be changed here, and where it can. */
function showNotice() {
  const box = byId("notice");
  box.replaceChildren();
  if (mayWrite(place, route.prefix) || route.view) return;
  const words = place.writable
    ? "Scratch is shared: everyone reads it, and writes in a folder of their own."
    : `You may read ${titleOf(place)}, but not change it.`;
  const mine = () => go({ bucket: place.name, prefix: place.write_prefix });
  box.append(
    element(
      "div",
      { class: "tc-message tc-message-info" },
      element("span", {}, words),
      place.writable && button("Go to my folder", { onclick: mine }),
    ),
  );
}

/** The bar above the table: for what is selected, or for the folder. */
function showToolbar(selected) {
  const bar = byId("toolbar");
  const focused = bar.contains(document.activeElement);
  if (selected.length) bar.replaceChildren(...selectionBar(selected));
  else bar.replaceChildren(...folderBar());
  bar.classList.toggle("st-many", bar.querySelectorAll(".st-label-wide").length > FEW);
  if (focused) bar.querySelector("button")?.focus();
}

const FEW = 4; // tools that have room for their words on most screens

/** A button of the bar; its words may make way for others. */
function tool(label, picture, act) {
  const made = button(label, { picture, onclick: act, title: label, "aria-label": label });
  made.lastElementChild.className = "st-label-wide";
  return made;
}

function folderBar() {
  const writable = place && inFolder() && mayWrite(place, route.prefix);
  const parts = [];
  if (writable) {
    parts.push(
      button("Upload files", { picture: "upload", look: "st-button-main", onclick: () => pick(false) }),
      tool("Upload a folder", "folder", () => pick(true)),
      tool("New folder", "add", newFolder),
    );
  }
  if (route.q) parts.push(element("span", { class: "st-count" }, `Found for “${route.q}”`));
  const bare = (label, picture, onclick) =>
    button(label, { picture, look: "st-button-bare", words: false, onclick });
  return [
    ...parts,
    element("span", { class: "st-space" }),
    bare("Read again", "refresh", () => load({ skeletons: true }).then(refreshPlaces)),
    bare("Keys", "keyboard", keysDialog),
  ];
}

function selectionBar(selected) {
  const acts = menuFor(selected).filter((action) => action && action.id !== "view");
  return [
    button("Select nothing", { picture: "close", look: "st-button-bare", words: false, onclick: unselect }),
    element("span", { class: "st-count" }, `${selected.length.toLocaleString()} selected`),
    ...acts.map(({ label, picture, act }) => tool(label, picture, act)),
  ];
}

function unselect() {
  listing.selectAll(false);
  listing.focus();
}

// ---- What is done

function menuFor(some) {
  if (route.view === "deleted") {
    return [{ id: "restore", label: "Restore", picture: "restore", act: () => restore(some) }];
  }
  return actions.actionsFor(place, some, {
    may,
    changed,
    view: open,
    share: (item) => shareDialog(place, item),
    versions: (item) => versionsDialog(place, item, { writable: may(item.key), changed }),
    move: async (moved) => {
      const folder = await chooseFolder(place, moved, parentOf(moved[0].key));
      if (folder !== null) await actions.moveInto(place, moved, folder, changed);
    },
  });
}

function open(item) {
  if (route.view === "deleted") return restore([item]);
  if (item.folder) go({ bucket: place.name, prefix: item.key });
  else go({ ...route, file: item.key });
}

async function restore(some) {
  let done = 0;
  try {
    for (const { key, version } of some) {
      await api.restore(place.name, key, version);
      done += 1;
    }
  } catch (error) {
    tellFailure(error);
  }
  if (done) {
    const [first] = some;
    toast(done === 1 ? `“${nameOf(first.key)}” is back.` : `${count(done, "file")} are back.`, {
      action: "Show",
      act: () => {
        focusOn = first.key;
        go({ bucket: place.name, prefix: parentOf(first.key) });
      },
    });
  }
  await changed();
}

/** Read again after a change; the focus goes to what it made. */
async function changed(key = null) {
  await load();
  refreshPlaces();
  if (key && listing.rows.has(key)) {
    listing.focus(key);
  } else if (document.activeElement === document.body) {
    if (items.length) listing.focus();
    else byId("main").focus();
  }
}

async function refreshPlaces() {
  try {
    places = await api.buckets();
    place = places.find(({ name }) => name === route.bucket);
    if (place) showUsage(place, () => refreshPlaces().then(() => load()));
  } catch {
    // What was known stays; the folder's own failure is told.
  }
}

const newFolder = () => actions.makeFolder(place, route.prefix, changed);

async function pick(folder) {
  const [bucket, prefix] = [place.name, route.prefix];
  const files = await chosen({ folder });
  if (files.length) upload(bucket, prefix, files);
}

function showPreview() {
  const item = route.file && (items.find(({ key }) => key === route.file) || { key: route.file, folder: false });
  if (!item) return preview?.close();
  const files = () => listing.items.filter(({ folder }) => !folder);
  preview ??= openPreview(place, {
    actions: (shown) =>
      menuFor([shown]).filter((action) => action && ["jupyter", "download", "share", "scratch"].includes(action.id)),
    step: (by) => {
      const place_ = files().findIndex(({ key }) => key === route.file);
      const to = files()[place_ + by];
      if (to) go({ ...route, file: to.key }, { replace: true });
    },
    closed: () => {
      preview = null;
      const key = route.file;
      if (key) go({ ...route, file: null });
      if (listing.rows.has(key)) listing.focus(key);
    },
  });
  preview.show(item);
}

// ---- Beginning

let soon;
queue.addEventListener("arrived", ({ detail: { bucket, key } }) => {
  if (bucket !== place?.name || !key.startsWith(route.prefix)) return;
  clearTimeout(soon);
  soon = setTimeout(() => load().then(refreshPlaces), REFRESH_MS);
});

let typing;
byId("search").addEventListener("input", ({ target }) => {
  clearTimeout(typing);
  typing = setTimeout(() => {
    const q = target.value.trim();
    if (q !== route.q) go({ bucket: route.bucket, prefix: route.prefix, q }, { replace: Boolean(route.q && q) });
  }, SEARCH_MS);
});
byId("search").addEventListener("keydown", (event) => {
  if (event.key === "ArrowDown" && items.length) {
    event.preventDefault();
    listing.focus();
  }
});

const current = () => listing.chosen({ orCurrent: true });
const act = (id) => () => {
  const some = current();
  if (some.length) menuFor(some).find((action) => action?.id === id)?.act();
};
bindKeys({
  "Ctrl+a": () => listing.selectAll(),
  "Ctrl+z": actions.undoLast,
  z: actions.undoLast,
  Delete: act("delete"),
  F2: act("rename"),
  m: act("move"),
  d: act("download"),
  s: act("share"),
  u: () => inFolder() && mayWrite(place, route.prefix) && pick(false),
  n: () => inFolder() && mayWrite(place, route.prefix) && newFolder(),
  "/": () => byId("search").focus(),
  "?": keysDialog,
  Backspace: () => {
    if (!route.prefix) return;
    focusOn = route.prefix;
    go({ bucket: route.bucket, prefix: parentOf(route.prefix) });
  },
  Escape: () => {
    if (listing.selected.size) listing.selectAll(false);
    else if (route.q) go({ bucket: route.bucket, prefix: route.prefix });
  },
});

const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
let inside = 0;
const dropping = (whether) => {
  inside = whether ? inside : 0;
  byId("view").classList.toggle("st-dropping", whether);
};
document.addEventListener("dragenter", (event) => {
  if (!holdsFiles(event)) return;
  inside += 1;
  dropping(inFolder() && place !== null && mayWrite(place, route.prefix));
});
document.addEventListener("dragleave", (event) => {
  if (holdsFiles(event) && (inside -= 1) <= 0) dropping(false);
});
document.addEventListener("dragover", (event) => holdsFiles(event) && event.preventDefault());
document.addEventListener("drop", async (event) => {
  if (!holdsFiles(event)) return;
  event.preventDefault(); // else the browser would open the file
  dropping(false);
  if (!place || !inFolder() || !mayWrite(place, route.prefix)) {
    toast("Nothing can be uploaded here.", { level: "bad" });
    return;
  }
  const [bucket, prefix] = [place.name, route.prefix];
  const found = await dropped(event.dataTransfer);
  for (const folder of found.empty) await api.makeFolder(bucket, prefix + folder).catch(() => {});
  if (found.files.length) upload(bucket, prefix, found.files);
  else if (found.empty.length) changed();
});

async function begin() {
  byId("view").replaceChildren(skeleton());
  try {
    places = await api.buckets();
  } catch (error) {
    const again = button("Try again", { onclick: begin });
    const words = error.reason === "login" ? button("Log in again", { onclick: logIn }) : again;
    byId("view").replaceChildren(faultMessage(error.message, words));
    return;
  }
  onRoute(follow);
  if (!route.bucket) history.replaceState(null, "", addressOf({ bucket: places[0].name }));
  await follow(here(), "first");
}

begin();
