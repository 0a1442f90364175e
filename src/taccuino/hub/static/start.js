// The start page: follows JupyterHub's progress events, says what fails, and tries again.
"use strict";

const page = document.getElementById("start-page");
const byId = (id) => document.getElementById(id);
const steps = [...document.querySelectorAll(".tc-step")];
const WORDS = { waiting: "", now: "in progress", done: "done", failed: "failed" };
let source = null;
let cancelled = false;

function mark(step, state) {
  step.dataset.state = state;
  step.querySelector(".tc-step-state").textContent = WORDS[state];
  const sign = { done: "✓", failed: "!" }[state];
  step.querySelector(".tc-step-mark").textContent = sign || steps.indexOf(step) + 1;
  if (state === "now") step.setAttribute("aria-current", "step");
  else step.removeAttribute("aria-current");
}

const current = () => steps.find((step) => step.dataset.state === "now");

const LEAD = "This page opens it as soon as it is ready.";

// Many start at once: this one waits for its turn.
function wait(event) {
  steps.forEach((step) => mark(step, "waiting"));
  byId("start-title").textContent = event.message;
  byId("start-lead").textContent =
    "Many servers are starting now, one after the other. This page opens yours as soon as it is ready.";
  byId("progress-message").textContent = event.message;
}

function enter(phase) {
  if (!cancelled) {
    byId("start-title").textContent = "Your server is starting";
    byId("start-lead").textContent = LEAD;
  }
  const place = steps.findIndex((step) => step.dataset.phase === phase);
  if (place < 0 || current() === steps[place]) return;
  steps.forEach((step, i) => {
    mark(step, i < place ? "done" : i === place ? "now" : "waiting");
    if (i >= place) step.querySelector(".tc-step-note").textContent = "";
  });
}

// Events of a spawner that names no phases still move the steps.
function phaseOf(event) {
  if (event.phase) return event.phase;
  if (typeof event.progress !== "number") return null;
  return event.progress < 35 ? "storage" : event.progress < 60 ? "container" : "jupyter";
}

function record(event) {
  const line = document.createElement("li");
  line.textContent = event.message || "";
  byId("progress-log")?.append(line);
  byId("progress-message").textContent = event.message || "";
  if (event.level === "warning") {
    const notice = document.createElement("li");
    notice.className = "tc-message tc-message-warning";
    notice.textContent = event.message;
    byId("notices").append(notice);
  } else if (event.level === "cancelled") {
    cancelling();
  } else if (event.level === "detail" && current()) {
    current().querySelector(".tc-step-note").textContent = event.message;
  }
}

function show(id, visible) {
  const element = byId(id);
  if (element) element.hidden = !visible;
}

function fail(message, html) {
  const step = current() || steps[0];
  mark(step, "failed");
  step.querySelector(".tc-step-note").textContent = "";
  if (html) byId("failure-text").innerHTML = html;
  else byId("failure-text").textContent = message;
  byId("start-title").textContent = "Your server is not running";
  byId("start-lead").textContent = "The start failed; nothing of it is left behind.";
  show("failure", true);
  show("failure-buttons", true);
  show("pending-buttons", false);
  byId("failure").focus();
}

function begin() {
  steps.forEach((step) => {
    mark(step, "waiting");
    step.querySelector(".tc-step-note").textContent = "";
  });
  mark(steps[0], "now");
  byId("notices").replaceChildren();
  byId("progress-log")?.replaceChildren();
  cancelled = false;
  byId("start-title").textContent = "Your server is starting";
  byId("start-lead").textContent = LEAD;
  show("steps-place", true);
  show("failure", false);
  show("failure-buttons", false);
  show("pending-buttons", true);
}

function follow(retries) {
  source?.close();
  source = new EventSource(page.dataset.progressUrl);
  // A stream that is opened again tells everything from the start.
  source.onopen = () => {
    byId("progress-log")?.replaceChildren();
    byId("notices").replaceChildren();
  };
  source.onmessage = (message) => {
    const event = JSON.parse(message.data);
    if (event.failed) {
      source.close();
      if (cancelled) {
        location.assign(page.dataset.homeUrl);
        return;
      }
      const text = (event.message || "").replace(/^Spawn failed:?\s*/, "");
      fail(text || "It ended without saying why; please tell the operators.", event.html_message);
      return;
    }
    if (event.phase === "queue") {
      if (!cancelled) wait(event);
      return;
    }
    const phase = event.ready ? "ready" : phaseOf(event);
    if (phase) enter(phase);
    if (event.ready) {
      source.close();
      mark(steps.at(-1), "done");
      byId("progress-message").textContent = "Your server is ready";
      location.reload(); // which redirects to the running server
      return;
    }
    record(event);
  };
  source.onerror = () => {
    if (source.readyState !== EventSource.CLOSED) return; // it connects again by itself
    if (retries > 0) setTimeout(() => follow(retries - 1), 500);
    else location.reload();
  };
}

const ask = (method) =>
  fetch(page.dataset.serverUrl, {
    method,
    headers: { "X-XSRFToken": window.jhdata.xsrf_token, Accept: "application/json" },
  });

async function tryAgain() {
  begin();
  const answer = ask("POST");
  // The answer comes when the server runs, or after a while: the events tell more, earlier.
  const follower = setTimeout(() => follow(20), 300);
  const response = await answer.catch(() => null);
  if (response?.ok) return;
  clearTimeout(follower);
  if (byId("failure").hidden) {
    source?.close();
    const said = response ? await response.json().catch(() => ({})) : {};
    fail(said.message || "The hub could not be reached. Look at your connection.");
  }
}

// The start was given up, here or elsewhere; its clean-up takes a moment.
function cancelling() {
  cancelled = true;
  byId("start-title").textContent = "The start is being stopped";
  byId("start-lead").textContent = "What was made for it is being removed.";
  const button = byId("stop-server-btn");
  button.disabled = true;
  button.textContent = "Cancelling…";
}

async function cancel() {
  const before = [byId("start-title").textContent, byId("start-lead").textContent];
  cancelling();
  const response = await ask("DELETE").catch(() => null);
  if (response?.ok) {
    source?.close();
    location.assign(page.dataset.homeUrl); // which follows it to its end
    return;
  }
  cancelled = false;
  [byId("start-title").textContent, byId("start-lead").textContent] = before;
  const button = byId("stop-server-btn");
  button.disabled = false;
  button.textContent = "Cancel";
}

byId("try-again")?.addEventListener("click", tryAgain);
byId("stop-server-btn")?.addEventListener("click", cancel);
if (byId("pending-buttons")) {
  mark(steps[0], "now");
  follow(3);
}
