// The page of snapshots: what there is, a new one, and one that is restored.
"use strict";

const FOLLOW_MS = 700;
const byId = (id) => document.getElementById(id);
const base = byId("snapshots").dataset.url;
let running = false;

// An answer of the API, or an error whose message is for the reader.
async function call(method, path = "") {
  const response = await fetch(base + path, {
    method,
    headers: { "X-XSRFToken": window.jhdata.xsrf_token, Accept: "application/json" },
  }).catch(() => null);
  if (!response) throw new Error("The hub could not be reached. Look at your connection.");
  const said = await response.json().catch(() => ({}));
  if (response.ok) return said;
  throw new Error(said.message || `The hub answered ${response.status}.`);
}

function show(id, text) {
  byId(id).textContent = text || "";
  byId(id).hidden = !text;
}

// As sizes are written in the settings: powers of 1024.
function inWords(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let value = bytes;
  for (; value >= 999.5 && unit < units.length - 1; unit += 1) value /= 1024;
  return `${unit === 0 || value >= 99.5 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

function element(name, text = "", classes = "") {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = classes;
  return made;
}

function row(one) {
  const line = document.createElement("li");
  const what = element("div");
  const when = new Date(one.at * 1000);
  const time = element("time", when.toLocaleString([], { dateStyle: "medium", timeStyle: "short" }));
  time.dateTime = when.toISOString();
  what.append(time);
  if (one.newest) what.append(element("span", "Newest", "tc-state tc-state-running"));
  if (one.apart) what.append(element("span", "Apart", "tc-state tc-state-pending"));
  const facts = [`site ${one.site}`];
  if (one.files !== null) {
    facts.push(one.files === 1 ? "1 file" : `${one.files.toLocaleString()} files`);
  }
  if (one.bytes !== null) facts.push(inWords(one.bytes));
  what.append(element("p", facts.join(" · "), "tc-hint mb-0"));
  if (one.apart) {
    what.append(element("p", "Made while you went on at another site.", "tc-hint mb-0"));
  }
  const button = element("button", "Restore", "tc-button tc-button-plain");
  button.type = "button";
  button.dataset.id = one.id;
  button.setAttribute("aria-label", `Restore the snapshot of ${time.textContent} into a folder`);
  line.append(what, button);
  return line;
}

function list(snapshots) {
  byId("snapshot-list").replaceChildren(...snapshots.map(row));
  byId("snapshot-list").hidden = snapshots.length === 0;
  byId("snapshot-empty").hidden = snapshots.length > 0;
  byId("snapshot-empty").textContent =
    "There is none yet. The first is made when your server stops, or now, if you like.";
  byId("snapshot-count").textContent =
    snapshots.length > 1 ? `${snapshots.length} snapshots` : "";
}

function tell(state) {
  const job = state.job;
  running = job?.state === "running";
  const percent = running && job.percent ? ` ${job.percent} %` : "";
  show("snapshot-job", job ? job.message + percent : "");
  const levels = { running: "info", done: "info", failed: "error" };
  byId("snapshot-job").className = `tc-message tc-message-${levels[job?.state] || "info"} mt-3 mb-0`;
  // What just failed is said once.
  show("snapshot-fault", state.fault && state.fault !== job?.message ? state.fault : "");
  byId("snapshot-notices").replaceChildren(
    ...state.notices.map((text) => element("li", text, "tc-message tc-message-warning mt-3")),
  );
  for (const button of document.querySelectorAll("#make, .tc-snapshots button")) {
    button.disabled = running;
  }
}

async function refresh() {
  try {
    const told = await call("GET");
    list(told.snapshots);
    tell(told.state);
    show("snapshot-message", "");
  } catch (error) {
    show("snapshot-message", error.message);
    if (byId("snapshot-list").hidden) byId("snapshot-empty").hidden = true;
    byId("make").disabled = false;
  }
  if (running) follow();
}

async function follow() {
  while (running) {
    await new Promise((done) => setTimeout(done, FOLLOW_MS));
    const told = await call("GET", "?state").catch(() => null);
    if (told) tell(told.state);
  }
  refresh();
}

async function begin(path = "") {
  show("snapshot-message", "");
  try {
    tell((await call("POST", path)).state);
    follow();
  } catch (error) {
    show("snapshot-message", error.message);
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.id === "make") begin();
  else if (button?.dataset.id) begin(`/${button.dataset.id}/restore`);
});

refresh();
