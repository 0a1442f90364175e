// Sizes, times and names in words.

const UNITS = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** A size as the settings write it: in powers of 1024. */
export function inWords(bytes) {
  let unit = 0;
  let value = bytes;
  for (; value >= 999.5 && unit < UNITS.length - 1; unit += 1) value /= 1024;
  if (unit === 0) return `${value} ${value === 1 ? "byte" : "bytes"}`;
  return `${value >= 99.5 ? Math.round(value) : value.toFixed(1)} ${UNITS[unit]}`;
}

/** "1 file", "3 files". */
export function count(number, noun) {
  return `${number.toLocaleString()} ${noun}${number === 1 ? "" : "s"}`;
}

const today = new Intl.DateTimeFormat([], { timeStyle: "short" });
const otherDay = new Intl.DateTimeFormat([], { dateStyle: "medium" });
const whole = new Intl.DateTimeFormat([], { dateStyle: "medium", timeStyle: "short" });

/** A moment (unix seconds): of today its time, else its day. */
export function shortMoment(seconds) {
  const when = new Date(seconds * 1000);
  const sameDay = when.toDateString() === new Date().toDateString();
  return sameDay ? `Today, ${today.format(when)}` : otherDay.format(when);
}

/** A moment (unix seconds) with day and time. */
export function moment(seconds) {
  return whole.format(new Date(seconds * 1000));
}

/** A time still to go, in words. */
export function duration(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}

/** The last part of a key, without a folder's slash. */
export function nameOf(key) {
  return key.replace(/\/$/, "").split("/").pop();
}

/** The folder that a key is in; "" is the bucket itself. */
export function parentOf(key) {
  const path = key.replace(/\/$/, "");
  return path.slice(0, path.lastIndexOf("/") + 1);
}

/** The `number`th name for what has a name that is taken: "notes (2).ipynb". */
export function numbered(name, number) {
  const dot = name.lastIndexOf(".");
  return dot > 0
    ? `${name.slice(0, dot)} (${number})${name.slice(dot)}`
    : `${name} (${number})`;
}

/** What is wrong with a new name; null if nothing is. */
export function nameFault(name) {
  if (!name.trim()) return "Give it a name.";
  if (name.includes("/")) return "A name has no slash.";
  if (name === "." || name === "..") return "This name means another folder.";
  // eslint-disable-next-line no-control-regex
  if (/[\u0000-\u001f\u007f]/.test(name)) return "A name has no control characters.";
  return null;
}

const PICTURES = {
  notebook: /\.ipynb$/i,
  image: /\.(png|jpe?g|gif|webp|svg)$/i,
  table: /\.(csv|tsv|parquet|xlsx?|ods)$/i,
  text: /\.(txt|md|py|r|jl|c|h|cpp|rs|js|sh|tex|json|ya?ml|toml|log|html?|xml|css|ini|cfg)$/i,
};

/** The picture of a file, by its name. */
export function pictureOf(name) {
  return Object.keys(PICTURES).find((kind) => PICTURES[kind].test(name)) || "file";
}
