// The home page: times in the reader's zone, and a start or stop that is followed to its end.
"use strict";

const FOLLOW_MS = 1000;
const server = document.getElementById("server");
const byId = (id) => document.getElementById(id);
let timer = null;

function localTimes() {
  for (const time of server.querySelectorAll("time")) {
    const when = new Date(time.dateTime);
    if (!Number.isNaN(when.valueOf())) {
      time.textContent = when.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
    }
  }
}

// Asks for this page again and takes over what changed: the state, the words and the buttons.
async function follow() {
  const answer = await fetch(location.pathname).catch(() => null);
  const page = answer?.ok ? await answer.text() : "";
  const now = new DOMParser().parseFromString(page, "text/html").getElementById("server");
  if (answer?.ok && !now) {
    location.reload(); // the session has ended: to the login
    return;
  }
  if (now) take(now);
  if (!now || server.hasAttribute("data-pending")) followSoon();
}

function followSoon() {
  clearTimeout(timer);
  timer = setTimeout(follow, FOLLOW_MS);
}

function take(now) {
  server.toggleAttribute("data-pending", now.hasAttribute("data-pending"));
  for (const part of server.querySelectorAll("[data-live]")) {
    const fresh = now.querySelector(`#${part.id}`);
    part.className = fresh.className;
    part.hidden = fresh.hidden;
    if (part.innerHTML !== fresh.innerHTML) part.innerHTML = fresh.innerHTML;
  }
  localTimes();
}

async function stop(button) {
  const words = button.textContent;
  button.disabled = true;
  button.textContent = "Stopping…";
  byId("server-message").hidden = true;
  followSoon(); // the answer may come only when the server has stopped
  const response = await fetch(server.dataset.serverUrl, {
    method: "DELETE",
    headers: { "X-XSRFToken": window.jhdata.xsrf_token, Accept: "application/json" },
  }).catch(() => null);
  if (response?.ok) {
    followSoon();
    return;
  }
  clearTimeout(timer);
  const said = response ? await response.json().catch(() => ({})) : {};
  byId("server-message").textContent =
    said.message || "The hub could not be reached. Look at your connection.";
  byId("server-message").hidden = false;
  button.disabled = false;
  button.textContent = words;
}

// How full the bucket is. It comes after the page, which never waits for the object storage.
async function showStorage() {
  const storage = byId("storage");
  const answer = await fetch(storage.dataset.url, {
    // JupyterHub takes a script's request without the token for another page's, also to read.
    headers: { "X-XSRFToken": window.jhdata.xsrf_token, Accept: "application/json" },
  }).catch(() => null);
  const told = answer?.ok ? await answer.json().catch(() => null) : null;
  if (told) fillStorage(storage, told);
}

function fillStorage(storage, told) {
  const known = Number.isFinite(told.used_bytes);
  const waiting = told.uploads_pending || 0;
  storage.hidden = !known && !waiting;
  byId("storage-words").hidden = !known;
  if (waiting) {
    const files = waiting === 1 ? "1 file is" : `${waiting} files are`;
    byId("storage-pending").textContent = `${files} still being uploaded to the object storage.`;
    byId("storage-pending").hidden = false;
  }
  const meter = storage.querySelector(".tc-meter");
  meter.hidden = !known || !told.quota_bytes;
  if (!known) return;
  const objects = Number.isFinite(told.objects) ? `, ${told.objects.toLocaleString()} files` : "";
  if (meter.hidden) {
    byId("storage-words").textContent = `Your bucket: ${inWords(told.used_bytes)} used${objects}.`;
    return;
  }
  const percent = Math.floor((told.used_bytes / told.quota_bytes) * 100);
  const level = percent >= 100 ? "full" : percent >= 90 ? "nearly" : "fine";
  const advice = {
    full: " It is full: nothing more is uploaded. Delete what you no longer need.",
    nearly: " It is nearly full.",
    fine: "",
  };
  const used = `${inWords(told.used_bytes)} of ${inWords(told.quota_bytes)} used (${percent} %)`;
  byId("storage-words").textContent = `Your bucket: ${used}${objects}.${advice[level]}`;
  meter.dataset.level = level;
  meter.setAttribute("aria-valuenow", Math.min(percent, 100));
  meter.setAttribute("aria-valuetext", used);
  meter.firstElementChild.style.width = `${Math.min(percent, 100)}%`;
}

// As sizes are written in the settings: powers of 1024.
function inWords(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  let value = bytes;
  for (; value >= 999.5 && unit < units.length - 1; unit += 1) value /= 1024;
  return `${unit === 0 || value >= 99.5 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

server.addEventListener("click", (event) => {
  if (event.target.id === "stop") stop(event.target);
});

localTimes();
showStorage();
if (server.hasAttribute("data-pending")) followSoon();
