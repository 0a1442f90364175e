// Light or dark, before anything is painted: the choice is JupyterHub's own, so the hub's pages
// and these agree.
"use strict";

const THEME = "jupyterhub-bs-theme";
const dark = matchMedia("(prefers-color-scheme: dark)");

function stored() {
  try {
    return localStorage.getItem(THEME);
  } catch {
    return null; // a browser that keeps nothing
  }
}

function paint(theme) {
  document.documentElement.dataset.bsTheme = theme || (dark.matches ? "dark" : "light");
}

paint(stored());
dark.addEventListener("change", () => paint(stored()));
addEventListener("DOMContentLoaded", () => {
  document.getElementById("dark-theme-toggle").addEventListener("click", () => {
    const theme = document.documentElement.dataset.bsTheme === "dark" ? "light" : "dark";
    paint(theme);
    try {
      localStorage.setItem(THEME, theme);
    } catch {
      // It holds for this page.
    }
  });
});
