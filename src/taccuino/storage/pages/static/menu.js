// A menu of actions at a button or at the pointer, worked with the arrow keys.

import { element, icon } from "./dom.js";

let current = null;

/** Close the open menu, if there is one. */
export function closeMenu() {
  current?.();
}

/**
 * Open a menu.
 * @param {({label: string, picture: string, act: () => void, key?: string}|null)[]} items
 *   null is a line between groups
 * @param {{x: number, y: number}} at
 * @param {HTMLElement} owner gets the focus back
 */
export function openMenu(items, at, owner) {
  closeMenu();
  const menu = element("div", { class: "st-menu", role: "menu", popover: "manual" });
  for (const item of items) {
    if (item === null) {
      menu.append(element("hr"));
      continue;
    }
    menu.append(
      element(
        "button",
        { type: "button", role: "menuitem", tabIndex: -1, onclick: () => (close(), item.act()) },
        icon(item.picture),
        item.label,
        item.key && element("kbd", { "aria-hidden": "true" }, item.key),
      ),
    );
  }
  const entries = [...menu.querySelectorAll("[role=menuitem]")];
  const outside = (event) => {
    if (!menu.contains(event.target)) close(false);
  };
  const close = (back = true) => {
    current = null;
    document.removeEventListener("pointerdown", outside, true);
    removeEventListener("resize", close);
    menu.remove();
    if (back) owner.focus();
  };
  menu.addEventListener("keydown", (event) => {
    const place = entries.indexOf(document.activeElement);
    const to = {
      ArrowDown: (place + 1) % entries.length,
      ArrowUp: (place - 1 + entries.length) % entries.length,
      Home: 0,
      End: entries.length - 1,
    }[event.key];
    event.stopPropagation();
    if (to !== undefined) entries[to].focus();
    else if (event.key === "Escape" || event.key === "Tab") close();
    else return;
    event.preventDefault();
  });
  (owner.closest("dialog") || document.body).append(menu);
  menu.showPopover();
  const box = menu.getBoundingClientRect();
  menu.style.left = `${Math.max(8, Math.min(at.x, innerWidth - box.width - 8))}px`;
  menu.style.top = `${Math.max(8, Math.min(at.y, innerHeight - box.height - 8))}px`;
  entries[0].focus();
  document.addEventListener("pointerdown", outside, true);
  addEventListener("resize", close);
  current = close;
}
