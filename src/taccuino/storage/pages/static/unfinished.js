// What this browser remembers of uploads in parts, so that they go on after a reload.

const KEY = "taccuino-uploads";
const KEPT_DAYS = 7;

/** @typedef {{bucket: string, key: string, size: number, lastModified: number,
 *   uploadId: string, partSize: number, at: number}} Unfinished */

/** @returns {Unfinished[]} */
export function unfinished() {
  try {
    const oldest = Date.now() - KEPT_DAYS * 86400e3;
    return JSON.parse(localStorage.getItem(KEY) || "[]").filter(({ at }) => at > oldest);
  } catch {
    return [];
  }
}

function keep(all) {
  try {
    localStorage.setItem(KEY, JSON.stringify(all));
  } catch {
    // A browser that keeps nothing: an upload then lasts as long as the page.
  }
}

const same = (a, b) => a.bucket === b.bucket && a.key === b.key;

/** What is known of an upload of this very file to this place. */
export function recall(bucket, key, file) {
  return unfinished().find(
    (known) =>
      same(known, { bucket, key }) &&
      known.size === file.size &&
      known.lastModified === file.lastModified,
  );
}

/** @param {Unfinished} upload */
export function remember(upload) {
  keep([...unfinished().filter((known) => !same(known, upload)), upload]);
}

export function forget(bucket, key) {
  keep(unfinished().filter((known) => !same(known, { bucket, key })));
}
