// Messages at the bottom of the page, with an action; they stay while one is at them.

import { announce, element } from "./dom.js";

const SECONDS = 10;
const region = () => document.getElementById("toasts");

/**
 * Show a message.
 * @param {string} text
 * @param {{action?: string, act?: () => void, level?: "good"|"bad", keep?: boolean}} [options]
 * @returns {() => void} takes it away
 */
export function toast(text, { action, act, level = "good", keep = false } = {}) {
  let timer;
  const close = () => {
    clearTimeout(timer);
    const inside = box.contains(document.activeElement);
    box.remove();
    if (inside) document.getElementById("main").focus();
  };
  const wait = () => {
    clearTimeout(timer);
    if (!keep && level !== "bad") timer = setTimeout(close, SECONDS * 1000);
  };
  const box = element(
    "div",
    {
      class: "st-toast",
      "data-level": level,
      onpointerenter: () => clearTimeout(timer),
      onpointerleave: wait,
      onfocusin: () => clearTimeout(timer),
      onfocusout: wait,
    },
    element("span", {}, text),
    action &&
      element("button", { type: "button", onclick: () => (close(), act()) }, action),
    element("button", { type: "button", class: "st-close", "aria-label": "Dismiss", onclick: close }, "✕"),
  );
  const open = document.querySelector("dialog[open]:modal");
  (open || document.body).append(region()); // a modal dialog hides what is outside it
  region().append(box);
  while (region().children.length > 3) region().firstElementChild.remove();
  announce(action ? `${text} ${action} is offered.` : text);
  wait();
  return close;
}

/** Show what failed, as a sentence. */
export function tellFailure(error, what = "") {
  if (error.name === "AbortError") return;
  toast(what ? `${what} ${error.message}` : error.message, { level: "bad" });
}
