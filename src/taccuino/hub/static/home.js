// The home page: times in the reader's zone, and a stop that is followed to its end.
"use strict";

const server = document.getElementById("server");
const state = document.getElementById("server-state");
const message = document.getElementById("server-message");
const headers = { "X-XSRFToken": window.jhdata.xsrf_token, Accept: "application/json" };

for (const time of document.querySelectorAll("time")) {
  const when = new Date(time.dateTime);
  if (!Number.isNaN(when.valueOf())) {
    time.textContent = when.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
  }
}

// Reloads once JupyterHub lists no pending or running server any more.
async function followStop() {
  const answer = await fetch(server.dataset.userUrl, { headers }).catch(() => null);
  const user = answer?.ok ? await answer.json() : null;
  if (user && !user.servers?.[""]) location.reload();
  else setTimeout(followStop, 1000);
}

function stopping() {
  state.textContent = "Stopping";
  state.className = "tc-state tc-state-pending";
  const start = document.getElementById("start");
  start.removeAttribute("href");
  start.setAttribute("aria-disabled", "true");
  followStop();
}

document.getElementById("stop")?.addEventListener("click", async (event) => {
  const button = event.currentTarget;
  button.disabled = true;
  button.textContent = "Uploading what is left…";
  message.hidden = true;
  const response = await fetch(server.dataset.serverUrl, { method: "DELETE", headers }).catch(
    () => null,
  );
  if (response?.ok) {
    stopping();
    return;
  }
  const said = response ? await response.json().catch(() => ({})) : {};
  message.textContent = said.message || "The hub could not be reached. Look at your connection.";
  message.hidden = false;
  button.disabled = false;
  button.textContent = "Stop my server";
});

if (state.textContent.trim() === "Stopping") followStop();
