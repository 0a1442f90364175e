// The options form: the image's description, and only the memory that goes with the CPUs.
"use strict";

const form = document.getElementById("spawn_form");
const image = document.getElementById("image");
const combinations = document.getElementById("tc-combinations");

if (image) {
  const description = document.getElementById("image-description");
  image.addEventListener("change", () => {
    description.textContent = image.selectedOptions[0].dataset.description;
  });
}

if (combinations) {
  const memoryWith = JSON.parse(combinations.textContent);
  const offerMemory = () => {
    const cpu = form.querySelector("input[name=cpu]:checked");
    const offered = cpu ? memoryWith[cpu.value] : [];
    let first = null;
    for (const input of form.querySelectorAll("input[name=memory]")) {
      input.disabled = !offered.includes(input.value);
      first = first || (input.disabled ? null : input);
    }
    if (form.querySelector("input[name=memory]:checked:disabled")) first.checked = true;
  };
  form.addEventListener("change", offerMemory);
  offerMemory();
}

const button = document.getElementById("start");
if (document.querySelector("[data-nothing-offered]")) button.hidden = true;
form.addEventListener("submit", () => {
  button.disabled = true;
  button.textContent = "Starting…";
});
// A page that the browser kept (Back) is usable again.
window.addEventListener("pageshow", () => {
  button.disabled = false;
  button.textContent = "Start";
});

document.querySelector(".spawn-error-msg")?.focus();
