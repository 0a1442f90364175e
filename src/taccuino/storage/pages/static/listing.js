// The table of a folder: sorted, selected from, and worked with the keyboard.

import { announce, button, element, icon } from "./dom.js";
import { count, inWords, moment, nameOf, parentOf, pictureOf, shortMoment } from "./format.js";
import { isBrowsers } from "./route.js";

/** @typedef {{key: string, name: string, folder: boolean, size?: number, modified?: number,
 *   version?: string, deleted_at?: number}} Item */

const COLUMNS = [
  { id: "name", label: "Name", look: "st-name" },
  { id: "size", label: "Size", look: "st-size" },
  { id: "modified", label: "Modified", look: "st-when" },
];
const DRAGGED = "application/x-taccuino-keys";
const byName = new Intl.Collator([], { numeric: true, sensitivity: "base" });

/** The items in the order that a column asks for, folders first. */
export function sorted(items, { column, descending }) {
  const turn = descending ? -1 : 1;
  return [...items].sort((a, b) => {
    if (a.folder !== b.folder) return a.folder ? -1 : 1;
    const difference = column === "name" ? 0 : (a[column] ?? 0) - (b[column] ?? 0);
    return turn * (difference || byName.compare(a.name, b.name));
  });
}

/**
 * The table. What is done with an item is up to `on`: `open(item)`, `menu(items, at, owner)`,
 * `selection(items)`, `move(keys, folder)`, `href(item)`.
 */
export class Listing {
  constructor(on) {
    this.on = on;
    /** @type {Item[]} */
    this.items = [];
    this.order = { column: "name", descending: false };
    this.selected = new Set(); // keys
    this.at = null; // the key that the keyboard is at
    this.anchor = null; // where a range begins
    this.rows = new Map();
    this.options = {};
    this.body = element("tbody");
    this.all = element("input", {
      type: "checkbox",
      "aria-label": "Select all",
      onchange: () => this.selectAll(this.all.checked),
    });
    this.head = element("thead", {}, this.#headRow());
    this.table = element(
      "table",
      {
        class: "st-table",
        role: "grid",
        "aria-multiselectable": "true",
        "aria-label": "Files and folders",
        onkeydown: (event) => this.#key(event),
      },
      this.head,
      this.body,
    );
  }

  #headRow() {
    const columns = COLUMNS.map(({ id, label, look }) => {
      const sort = element("button", { type: "button", onclick: () => this.#sortBy(id) }, label);
      return element("th", { scope: "col", class: look, "data-column": id }, sort);
    });
    return element(
      "tr",
      {},
      element("th", { class: "st-check", scope: "col" }, this.all),
      ...columns,
      element("th", { class: "st-more", scope: "col" }, element("span", { class: "st-unseen" }, "Actions")),
    );
  }

  /**
   * Show other items; what was selected and is still there stays so.
   * @param {Item[]} items
   * @param {{where?: boolean, when?: string, readOnly?: boolean}} [options]
   *   where: say which folder each is in
   */
  show(items, options = {}) {
    const hadFocus = this.body.contains(document.activeElement);
    const place = this.items.findIndex(({ key }) => key === this.at);
    this.options = options;
    this.items = sorted(items, this.order);
    const keys = new Set(items.map(({ key }) => key));
    for (const key of this.selected) if (!keys.has(key)) this.selected.delete(key);
    if (!keys.has(this.at)) {
      const near = Math.min(Math.max(place, 0), this.items.length - 1);
      this.at = this.items[near]?.key ?? null;
    }
    this.rows = new Map(this.items.map((item) => [item.key, this.#row(item)]));
    this.body.replaceChildren(...this.rows.values());
    const when = this.head.querySelector("[data-column=modified] button");
    when.textContent = options.when || "Modified";
    for (const cell of this.head.querySelectorAll("[data-column]")) {
      const sorts = cell.dataset.column === this.order.column;
      if (sorts) cell.setAttribute("aria-sort", this.order.descending ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    }
    this.#mark();
    if (hadFocus) this.focus();
  }

  #sortBy(column) {
    const same = this.order.column === column;
    this.order = { column, descending: same ? !this.order.descending : column !== "name" };
    this.show(this.items, this.options);
    announce(`Sorted by ${column}, ${this.order.descending ? "descending" : "ascending"}.`);
  }

  #row(item) {
    const check = element("input", {
      type: "checkbox",
      tabIndex: -1,
      "aria-label": `Select ${item.name}`,
      onclick: (event) => {
        event.stopPropagation();
        if (event.shiftKey && this.anchor) this.#range(item.key);
        else this.toggle(item.key);
      },
    });
    const link = element(
      "a",
      {
        href: this.on.href(item),
        tabIndex: -1,
        draggable: false,
        onclick: (event) => {
          if (isBrowsers(event)) return event.stopPropagation();
          event.preventDefault();
          event.stopPropagation();
          this.at = item.key;
          this.on.open(item);
        },
      },
      item.name,
    );
    const when = item.deleted_at ?? item.modified;
    const brief = item.folder ? "" : `${inWords(item.size)}, ${shortMoment(when)}`;
    const menu = button(`Actions for ${item.name}`, {
      picture: "more",
      look: "st-button-bare",
      words: false,
      tabIndex: -1,
      "aria-haspopup": "menu",
      onclick: (event) => {
        event.stopPropagation();
        const box = menu.getBoundingClientRect();
        this.#menu(item, { x: box.right - 230, y: box.bottom }, menu);
      },
    });
    const row = element(
      "tr",
      {
        "aria-selected": "false",
        tabIndex: -1,
        draggable: !this.options.readOnly,
        onclick: (event) => this.#click(event, item),
        ondblclick: () => this.on.open(item),
        onfocus: () => this.#moveTo(item.key),
        oncontextmenu: (event) => {
          event.preventDefault();
          // The key of menus has no place of its own.
          const box = row.getBoundingClientRect();
          const keyboard = event.clientX === 0 && event.clientY === 0;
          const at = keyboard ? { x: box.left + 60, y: box.bottom } : { x: event.clientX, y: event.clientY };
          this.#menu(item, at, row);
        },
        ondragstart: (event) => this.#dragStart(event, item),
      },
      element("td", { class: "st-check" }, check),
      element(
        "td",
        {},
        element(
          "span",
          { class: "st-item" },
          icon(item.folder ? "folder" : pictureOf(item.name)),
          element(
            "span",
            { class: "st-text" },
            link,
            this.options.where &&
              element("small", { class: "st-where" }, parentOf(item.key) || "in the bucket itself"),
            element("span", { class: "st-brief" }, brief),
          ),
        ),
      ),
      element("td", { class: "st-size" }, item.folder ? "" : inWords(item.size)),
      element("td", { class: "st-when", title: when ? moment(when) : "" }, when ? shortMoment(when) : ""),
      element("td", { class: "st-more" }, menu),
    );
    if (item.folder && !this.options.readOnly) this.takesMoved(row, item.key);
    return row;
  }

  /** Let what is dragged from the table be dropped on an element that stands for a folder. */
  takesMoved(node, folder) {
    const over = (event) => event.dataTransfer.types.includes(DRAGGED) && !this.selected.has(folder);
    node.addEventListener("dragover", (event) => {
      if (!over(event)) return;
      event.preventDefault();
      node.classList.add("st-over");
    });
    node.addEventListener("dragleave", () => node.classList.remove("st-over"));
    node.addEventListener("drop", (event) => {
      node.classList.remove("st-over");
      if (!over(event)) return;
      event.preventDefault();
      this.on.move(this.chosen(), folder);
    });
  }

  #dragStart(event, item) {
    if (!this.selected.has(item.key)) this.#only(item.key);
    event.dataTransfer.setData(DRAGGED, item.key);
    event.dataTransfer.effectAllowed = "move";
    const words = element("div", { class: "st-toast" }, count(this.selected.size, "item"));
    document.getElementById("toasts").append(words);
    event.dataTransfer.setDragImage(words, -12, -12);
    setTimeout(() => words.remove());
  }

  /** The chosen items, or the one that the keyboard is at if `orCurrent`. */
  chosen({ orCurrent = false } = {}) {
    const some = this.items.filter(({ key }) => this.selected.has(key));
    if (some.length || !orCurrent) return some;
    return this.items.filter(({ key }) => key === this.at);
  }

  selectAll(whether = true) {
    this.selected = new Set(whether ? this.items.map(({ key }) => key) : []);
    this.#chosenChanged();
  }

  toggle(key) {
    if (!this.selected.delete(key)) this.selected.add(key);
    this.anchor = key;
    this.#moveTo(key);
    this.#chosenChanged();
  }

  /** Bring the focus to an item, or back to the one it was at. */
  focus(key = this.at) {
    const row = this.rows.get(key) || this.rows.values().next().value;
    row?.focus();
    row?.scrollIntoView({ block: "nearest" });
  }

  #only(key) {
    this.selected = new Set([key]);
    this.anchor = key;
    this.#chosenChanged();
  }

  #range(to) {
    const keys = this.items.map(({ key }) => key);
    const ends = [keys.indexOf(this.anchor ?? this.at), keys.indexOf(to)].sort((a, b) => a - b);
    this.selected = new Set(keys.slice(Math.max(0, ends[0]), ends[1] + 1));
    this.#chosenChanged();
  }

  #click(event, item) {
    if (event.target.closest("button, a, input")) return;
    this.#moveTo(item.key);
    if (event.shiftKey) this.#range(item.key);
    else if (event.ctrlKey || event.metaKey) this.toggle(item.key);
    else if (this.selected.size === 1 && this.selected.has(item.key)) this.selectAll(false);
    else this.#only(item.key);
  }

  #menu(item, at, owner) {
    if (!this.selected.has(item.key)) {
      this.selected.clear();
      this.#chosenChanged();
    }
    this.#moveTo(item.key);
    this.on.menu(this.chosen({ orCurrent: true }), at, owner);
  }

  #moveTo(key) {
    this.at = key;
    this.#mark();
  }

  #mark() {
    for (const [key, row] of this.rows) {
      row.tabIndex = key === this.at ? 0 : -1;
      const chosen = this.selected.has(key);
      row.setAttribute("aria-selected", String(chosen));
      row.querySelector("input").checked = chosen;
    }
    const number = this.selected.size;
    this.all.checked = number > 0 && number === this.items.length;
    this.all.indeterminate = number > 0 && number < this.items.length;
  }

  #chosenChanged() {
    this.#mark();
    this.on.selection(this.chosen());
  }

  #key(event) {
    if (!event.target.closest("tbody")) return;
    const place = this.items.findIndex(({ key }) => key === this.at);
    const last = this.items.length - 1;
    const to = {
      ArrowDown: Math.min(place + 1, last),
      ArrowUp: Math.max(place - 1, 0),
      PageDown: Math.min(place + 10, last),
      PageUp: Math.max(place - 10, 0),
      Home: 0,
      End: last,
    }[event.key];
    if (event.altKey) return;
    if (to !== undefined) {
      const key = this.items[to].key;
      if (event.shiftKey) {
        this.anchor ??= this.at;
        this.#range(key);
      } else if (!event.ctrlKey) this.anchor = null;
      this.focus(key);
    } else if (event.key === "Enter" && event.target.matches("tr")) {
      this.on.open(this.items[place]);
    } else if (event.key === " " && event.target.matches("tr")) {
      this.toggle(this.at);
      announce(`${nameOf(this.at)} ${this.selected.has(this.at) ? "selected" : "not selected"}.`);
    } else if (event.key.length === 1 && /[\p{L}\p{N}]/u.test(event.key) && event.shiftKey) {
      this.#jump(event.key);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** To the next item whose name begins with a letter. */
  #jump(letter) {
    const place = this.items.findIndex(({ key }) => key === this.at);
    const around = [...this.items.slice(place + 1), ...this.items.slice(0, place + 1)];
    const found = around.find(({ name }) => byName.compare(name[0], letter) === 0);
    if (found) this.focus(found.key);
  }
}
