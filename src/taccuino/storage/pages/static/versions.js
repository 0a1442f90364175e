// The versions of a file, and taking one back.

import * as api from "./api.js";
import { save } from "./actions.js";
import { answers, openDialog } from "./dialogs.js";
import { announce, button, element } from "./dom.js";
import { inWords, moment, nameOf } from "./format.js";
import { page } from "./page.js";

export async function versionsDialog(place, item, { writable, changed }) {
  const words = element("p", { role: "status" }, "Looking…");
  const list = element("ul", { class: "st-list" });
  const dialog = openDialog(`Versions of “${nameOf(item.key)}”`, {
    body: [words, list, answers(button("Done", { onclick: () => dialog.close() }))],
  });

  async function refresh() {
    try {
      const { versions } = await api.versions(place.name, item.key);
      words.textContent =
        `Earlier versions are kept for ${page.keepVersionsDays} days. ` +
        "Restoring one makes it the current version; nothing is lost by that.";
      list.replaceChildren(...versions.map(row));
    } catch (error) {
      words.textContent = error.message;
    }
  }

  function row(version) {
    const when = moment(version.modified);
    const note = version.deleted ? "deleted" : inWords(version.size);
    const get = () => save(api.downloadAddress(place.name, item.key, version.id));
    const restore = button("Restore", {
      "aria-label": `Restore the version of ${when}`,
      onclick: async () => {
        restore.disabled = true;
        try {
          await api.restore(place.name, item.key, version.id);
          announce(`The version of ${when} is current again.`);
          await refresh();
          await changed(item.key);
          dialog.querySelector(".st-answers button").focus();
        } catch (error) {
          words.textContent = error.message;
          restore.disabled = false;
        }
      },
    });
    return element(
      "li",
      {},
      element("span", {}, when, element("small", {}, version.current ? `${note}, current` : note)),
      !version.deleted && button("Download", { onclick: get, "aria-label": `Download the version of ${when}` }),
      !version.deleted && !version.current && writable && restore,
    );
  }

  await refresh();
}
