// Links that share a file with anybody: made for a time, listed, ended.

import * as api from "./api.js";
import { answers, linkField, openDialog } from "./dialogs.js";
import { announce, button, element } from "./dom.js";
import { moment, nameOf } from "./format.js";
import { page } from "./page.js";

const HOUR = 3600;
const DAY = 24 * HOUR;
const LIFETIMES = [
  [HOUR, "1 hour"],
  [DAY, "1 day"],
  [7 * DAY, "1 week"],
  [30 * DAY, "30 days"],
];

/** The lifetimes that are offered, the longest that is allowed among them. */
function lifetimes() {
  const longest = page.shareDays * DAY;
  const offered = LIFETIMES.filter(([seconds]) => seconds <= longest);
  if (!offered.some(([seconds]) => seconds === longest) && longest < 30 * DAY) {
    offered.push([longest, `${page.shareDays} days`]);
  }
  return offered;
}

/** Share a file; its links so far are listed below. */
export function shareDialog(place, item) {
  const select = element(
    "select",
    { class: "st-input", id: "lifetime" },
    ...lifetimes().map(([seconds, words]) =>
      element("option", { value: String(seconds), selected: seconds === DAY }, words),
    ),
  );
  const made = element("div");
  const fault = element("p", { class: "st-fault", role: "alert" });
  const list = element("ul", { class: "st-list" });
  const heading = element("h3", { hidden: true }, "Links to this file");
  const make = button("Make a link", {
    look: "st-button-main",
    onclick: async () => {
      fault.textContent = "";
      make.disabled = true;
      try {
        const share = await api.share(place.name, item.key, Number(select.value));
        made.replaceChildren(linkField(share.url, "The link"));
        made.querySelector("button").click(); // it is copied already
        announce("The link is made.");
        refresh();
      } catch (error) {
        fault.textContent = error.message;
      } finally {
        make.disabled = false;
      }
    },
  });
  const refresh = async () => {
    const all = await api.shares().catch(() => []);
    const own = all.filter(({ bucket, key }) => bucket === place.name && key === item.key);
    heading.hidden = !own.length;
    list.replaceChildren(...own.map((share) => row(share, refresh, false)));
  };
  const dialog = openDialog(`Share “${nameOf(item.key)}”`, {
    body: [
      element("p", {}, "Anybody who has the link can download the file, without an account, until the link ends."),
      element("label", { htmlFor: "lifetime" }, "The link ends after"),
      element("div", { class: "st-pair" }, select, make),
      fault,
      made,
      heading,
      list,
      answers(button("Done", { onclick: () => dialog.close() })),
    ],
  });
  made.className = "st-made";
  select.focus();
  refresh();
}

/** All of the user's links. */
export async function linksDialog() {
  const list = element("ul", { class: "st-list" });
  const words = element("p", { role: "status" }, "Looking…");
  const refresh = async () => {
    try {
      const all = await api.shares();
      words.textContent = all.length
        ? "Anybody who has one of these can download its file. You can end each at once."
        : "You have shared nothing. Choose “Share a link” at a file: anybody can then download it, for as long as you say.";
      list.replaceChildren(...all.map((share) => row(share, refresh, true)));
    } catch (error) {
      words.textContent = error.message;
    }
  };
  const dialog = openDialog("My links", {
    body: [words, list, answers(button("Done", { onclick: () => dialog.close() }))],
  });
  await refresh();
}

function row(share, refresh, named) {
  const name = nameOf(share.key);
  const until = `ends ${moment(share.expires)}`;
  const end = button("End", {
    "aria-label": `End the link to ${name}, which ${until}`,
    onclick: async () => {
      end.disabled = true;
      try {
        await api.revoke(share.id);
        announce("The link has ended.");
        const dialog = end.closest("dialog");
        await refresh();
        dialog.querySelector(".st-answers button").focus();
      } catch (error) {
        end.disabled = false;
        text.lastElementChild.textContent = error.message;
      }
    },
  });
  const text = element(
    "span",
    {},
    named && name,
    element("small", {}, named ? `${share.bucket}/${share.key}, ${until}` : until[0].toUpperCase() + until.slice(1)),
  );
  return element("li", {}, text, copyOf(share), end);
}

/** A button that copies a link; the field it is read from is not shown. */
function copyOf(share) {
  const field = linkField(share.url, `Link to ${nameOf(share.key)}`);
  field.firstElementChild.classList.add("st-unseen");
  field.firstElementChild.tabIndex = -1;
  field.style.position = "relative";
  return field;
}
