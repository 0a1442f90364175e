// A look at a file, in a dialog with the next and the previous one at hand.

import * as api from "./api.js";
import { openDialog } from "./dialogs.js";
import { announce, button, element, icon } from "./dom.js";
import { inWords, moment, nameOf, pictureOf } from "./format.js";

const STYLE = new URL("notebook.css", import.meta.url).pathname;
const MOST_LINES = 20_000;

/**
 * Open it.
 * @param {{item: object, actions: (item) => object[], step: (by: number) => void,
 *   closed: () => void}} options
 */
export function openPreview(place, { actions, step, closed }) {
  const shown = element("div", { class: "st-shown", tabIndex: 0, role: "region", "aria-label": "Preview" });
  const bar = element("span", { class: "st-look-tools" });
  const dialog = openDialog("", { look: "st-look" });
  const heading = dialog.querySelector("h2");
  let loading = new AbortController();
  const bare = (label, picture, onclick) =>
    button(label, { picture, look: "st-button-bare", words: false, onclick });
  const previous = bare("Previous file", "previous", () => step(-1));
  const next = bare("Next file", "next", () => step(1));
  const close = bare("Close", "close", () => dialog.close());
  dialog.replaceChildren(element("header", {}, heading, bar, previous, next, close), shown);
  dialog.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target.closest("[role=menu]")) return;
    if (event.key === "ArrowLeft" && shown.scrollWidth <= shown.clientWidth) step(-1);
    else if (event.key === "ArrowRight" && shown.scrollWidth <= shown.clientWidth) step(1);
    else return;
    event.preventDefault();
  });
  dialog.addEventListener("close", () => {
    loading.abort();
    closed();
  });
  shown.focus();

  async function show(item) {
    loading.abort();
    loading = new AbortController();
    const facts = item.size === undefined ? "" : `${inWords(item.size)}, ${moment(item.modified)}`;
    heading.replaceChildren(nameOf(item.key), element("small", {}, facts));
    const acts = actions(item).map(({ label, picture, act }) =>
      bare(label, picture, act),
    );
    bar.replaceChildren(...acts);
    shown.replaceChildren(element("div", { class: "st-empty" }, "Loading…"));
    shown.classList.remove("st-wrapped");
    try {
      const told = await api.preview(place.name, item.key, loading.signal);
      shown.replaceChildren(...VIEWS[told.kind](told, { item, shown, bar }));
      shown.scrollTo(0, 0);
      announce(`${nameOf(item.key)} is shown.`);
    } catch (error) {
      if (error.name === "AbortError") return;
      const again = button("Try again", { onclick: () => show(item) });
      shown.replaceChildren(nothing(item, error.message, again));
    }
  }

  return { show, close: () => dialog.close(), dialog };
}

function nothing(item, words, ...more) {
  const name = nameOf(item.key);
  return element(
    "div",
    { class: "st-empty" },
    icon(pictureOf(name)),
    element("h2", {}, name),
    element("p", { role: "status" }, words),
    ...more,
  );
}

const cut = (told) =>
  told.truncated
    ? [element("p", { class: "st-cut" }, "This is only the beginning of the file. Download it to see all.")]
    : [];

const VIEWS = {
  none: (told, { item }) => [nothing(item, told.reason)],

  image: (told, { item }) => {
    const { pathname, search } = new URL(told.url, location.href);
    return [element("img", { src: pathname + search, alt: nameOf(item.key) })];
  },

  text: (told, { shown, bar }) => {
    const wrap = button("Wrap long lines", {
      "aria-pressed": "false",
      onclick: () => {
        const wrapped = shown.classList.toggle("st-wrapped");
        wrap.setAttribute("aria-pressed", String(wrapped));
      },
    });
    bar.prepend(wrap);
    const lines = told.text.split(/\r?\n/);
    if (lines.at(-1) === "") lines.pop();
    const some = lines.slice(0, MOST_LINES);
    const node = element("pre", { class: "st-lines" }, ...some.map((line) => element("span", {}, line)));
    const whole = { truncated: told.truncated || some.length < lines.length };
    return [element("div", {}, ...cut(whole), some.length ? node : element("p", { class: "st-empty" }, "The file is empty."))];
  },

  table: (told) => {
    const [head = [], ...rows] = told.rows;
    const row = (cells, tag) => element("tr", {}, ...cells.map((cell) => element(tag, { title: cell }, cell)));
    return [
      element(
        "div",
        {},
        ...cut(told),
        element(
          "table",
          { class: "st-cells" },
          element("thead", {}, row(head, "th")),
          element("tbody", {}, ...rows.map((cells) => row(cells, "td"))),
        ),
      ),
    ];
  },

  // The service has taken out what could do harm; and in this frame nothing of it could run.
  notebook: (told, { item }) => {
    const theme = document.documentElement.dataset.bsTheme === "dark" ? "dark" : "light";
    const frame = element("iframe", { title: `Notebook ${nameOf(item.key)}` });
    frame.setAttribute("sandbox", "");
    frame.srcdoc =
      `<!doctype html><html lang="en" data-theme="${theme}"><head><meta charset="utf-8">` +
      `<link rel="stylesheet" href="${STYLE}"></head><body>${told.html}</body></html>`;
    return [frame];
  },
};
