// Fetches what the notebook server's page will load, while its user chooses and waits.
"use strict";

(() => {
  const AT_ONCE = 3; // a browser has six connections; the page needs some for itself
  const known = document.getElementById("tc-preload");
  const link = navigator.connection;
  const sparing =
    link?.saveData ||
    link?.type === "cellular" ||
    /2g/.test(link?.effectiveType || "") ||
    matchMedia("(prefers-reduced-data: reduce)").matches;
  if (!known || sparing) return;

  const files = JSON.parse(known.textContent); // a list, or lists by image and interface
  const asked = new Set();
  let waiting = [];
  let underWay = 0;

  function go() {
    while (underWay < AT_ONCE && waiting.length) {
      const path = waiting.shift();
      if (asked.has(path)) continue;
      asked.add(path);
      underWay += 1;
      fetch(path, { priority: "low" })
        .then((answer) => answer.arrayBuffer()) // only what is read is kept
        .catch(() => {})
        .finally(() => {
          underWay -= 1;
          go();
        });
    }
  }

  const chosen = (name) =>
    document.querySelector(`select[name=${name}], input[name=${name}]:checked`)?.value || "";

  function choose() {
    const list = Array.isArray(files) ? files : files[chosen("image")]?.[chosen("interface")];
    waiting = [...(list || [])];
    go();
  }

  document.getElementById("spawn_form")?.addEventListener("change", choose);
  choose();
})();
