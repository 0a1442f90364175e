// Questions in dialogs. The browser keeps the focus in them and gives it back.

import { button, element } from "./dom.js";

let numbers = 0;

/**
 * Show a dialog; it is gone from the page when it closes.
 * @param {string} title
 * @param {{look?: string, body?: (Node|string)[]}} options
 */
export function openDialog(title, { look = "", body = [] } = {}) {
  const id = `dialog-${(numbers += 1)}`;
  const before = document.activeElement;
  const dialog = element(
    "dialog",
    { class: `st-dialog ${look}`, "aria-labelledby": id },
    element("h2", { id }, title),
    ...body,
  );
  dialog.addEventListener("close", () => {
    for (const shared of dialog.querySelectorAll("#toasts, #announcements")) {
      document.body.append(shared);
    }
    dialog.remove();
    if (before?.isConnected && document.activeElement === document.body) before.focus();
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog && outside(event, dialog)) dialog.close();
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

function outside({ clientX: x, clientY: y }, dialog) {
  const box = dialog.getBoundingClientRect();
  return x < box.left || x > box.right || y < box.top || y > box.bottom;
}

/** The row of buttons at a dialog's end. */
export const answers = (...buttons) => element("div", { class: "st-answers" }, ...buttons);

/**
 * Ask; answers with the chosen value, or null when the dialog is closed otherwise.
 * @param {{title: string, body?: (Node|string)[],
 *   choices: {label: string, value: any, look?: string}[]}} question
 */
export function ask({ title, body = [], choices }) {
  return new Promise((resolve) => {
    let chosen = null;
    const buttons = choices.map(({ label, value, look }) =>
      button(label, {
        look,
        onclick: () => {
          chosen = value;
          dialog.close();
        },
      }),
    );
    const texts = body.map((part) => (typeof part === "string" ? element("p", {}, part) : part));
    const dialog = openDialog(title, { body: [...texts, answers(...buttons)] });
    dialog.addEventListener("close", () => resolve(chosen));
    (buttons.at(-1) ?? dialog).focus();
  });
}

/** Ask whether to do something that can't be undone. */
export function confirmed(title, text, label) {
  return ask({
    title,
    body: [text],
    choices: [
      { label, value: true, look: "st-button-bad" },
      { label: "Cancel", value: null },
    ],
  });
}

/**
 * Ask for a name and do something with it; a failure is told in the dialog, which stays.
 * What `act` answers with is called once the dialog is gone: below it nothing takes the focus.
 * @param {{title: string, label: string, value?: string, done: string,
 *   fault: (name: string) => string|null,
 *   act: (name: string) => Promise<() => any>}} question
 */
export function askName({ title, label, value = "", done, fault, act }) {
  const input = element("input", {
    class: "st-input",
    id: "dialog-name",
    value,
    autocomplete: "off",
    spellcheck: false,
    "aria-describedby": "dialog-fault",
    oninput: () => (said.textContent = ""),
  });
  const said = element("p", { class: "st-fault", id: "dialog-fault", role: "alert" });
  const submit = element("button", { class: "st-button st-button-main" }, done);
  const cancel = button("Cancel", { onclick: () => dialog.close() });
  const form = element(
    "form",
    { method: "dialog" },
    element("label", { htmlFor: "dialog-name" }, label),
    input,
    said,
    answers(cancel, submit),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const name = input.value.trim();
    said.textContent = (name === value ? "" : fault(name)) || "";
    if (said.textContent) return;
    if (name === value && value) {
      dialog.close();
      return;
    }
    submit.disabled = true;
    try {
      const afterwards = await act(name);
      dialog.close();
      afterwards();
    } catch (error) {
      said.textContent = error.message;
      input.focus();
    } finally {
      submit.disabled = false;
    }
  });
  const dialog = openDialog(title, { body: [form] });
  input.focus();
  const dot = value.lastIndexOf(".");
  input.setSelectionRange(0, dot > 0 ? dot : value.length);
}

/** Put a text into the clipboard; whether that was let. */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false; // no secure context, or not allowed: see linkField
  }
}

/** A link to read and to copy. */
export function linkField(url, label) {
  const input = element("input", {
    class: "st-input",
    readOnly: true,
    value: url,
    "aria-label": label,
    onfocus: () => input.select(),
  });
  const copy = button("Copy", {
    onclick: async () => {
      const whole = await copyText(url);
      input.select();
      // Where the page is served without TLS, browsers have only the old way.
      const done = whole || document.execCommand("copy");
      copy.lastElementChild.textContent = done ? "Copied" : "Press Ctrl+C";
      copy.focus();
    },
  });
  return element("div", { class: "st-pair" }, input, copy);
}
