// What was dropped or chosen, as a flat list of files with their paths.

/** @typedef {{path: string, file: File}} Dropped */

/**
 * All files of a drop, those in folders too; and the folders that are empty.
 * @param {DataTransfer} data must be read before the event is over: so is this function's start
 * @returns {Promise<{files: Dropped[], empty: string[]}>}
 */
export async function dropped(data) {
  const entries = [...data.items]
    .filter((item) => item.kind === "file")
    .map((item) => item.webkitGetAsEntry() || item.getAsFile());
  const found = { files: [], empty: [] };
  for (const entry of entries) {
    if (entry instanceof File) found.files.push({ path: entry.name, file: entry });
    else if (entry) await walk(entry, "", found);
  }
  return found;
}

async function walk(entry, above, found) {
  const path = above + entry.name;
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    found.files.push({ path, file });
    return;
  }
  const reader = entry.createReader();
  let any = false;
  for (;;) {
    // It answers with some of them each time, and with none in the end.
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) break;
    any = true;
    for (const child of some) await walk(child, `${path}/`, found);
  }
  if (!any) found.empty.push(`${path}/`);
}

/** Let the user choose files, or a folder. @returns {Promise<Dropped[]>} */
export function chosen({ folder = false } = {}) {
  return new Promise((resolve) => {
    const input = document.createElement("input");
    Object.assign(input, { type: "file", multiple: true, webkitdirectory: folder });
    input.addEventListener("change", () =>
      resolve([...input.files].map((file) => ({ path: file.webkitRelativePath || file.name, file }))),
    );
    input.addEventListener("cancel", () => resolve([]));
    input.click();
  });
}
