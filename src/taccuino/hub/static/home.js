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

server.addEventListener("click", (event) => {
  if (event.target.id === "stop") stop(event.target);
});

localTimes();
if (server.hasAttribute("data-pending")) followSoon();
