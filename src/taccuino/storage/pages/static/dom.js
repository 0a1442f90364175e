// Building what is seen. Data comes in as text alone: nothing here takes HTML.

/**
 * An element. A property that begins with "on" is a listener; "class", "data-…", "aria-…",
 * "role" and the like are attributes, left out where null or false; the rest are properties.
 * @param {string} tag
 * @param {Object<string, any>} [properties]
 * @param {...(Node|string|null|false|undefined)} children
 */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made && !name.includes("-")) made[name] = value;
    else if (value !== null && value !== undefined && value !== false) {
      made.setAttribute(name, value === true ? "" : value);
    }
  }
  made.append(...children.filter((child) => child !== null && child !== false && child !== undefined));
  return made;
}

const PATHS = {
  folder: "M3 6.5A1.5 1.5 0 0 1 4.5 5h4.2l2 2.2h8.8A1.5 1.5 0 0 1 21 8.7v9.8a1.5 1.5 0 0 1-1.5 1.5h-15A1.5 1.5 0 0 1 3 18.5z",
  file: "M6 3h8l4.5 4.5V21H6zM14 3v5h4.5",
  text: "M6 3h8l4.5 4.5V21H6zM14 3v5h4.5M9 12h6M9 15h6M9 18h3",
  notebook: "M6 3h12v18H6zM9.5 3v18M12.5 8h3M12.5 11h3",
  image: "M4 5h16v14H4zM4 16l5-5 4 4 2.5-2.5L20 17M15 9.5h.01",
  table: "M4 5h16v14H4zM4 10h16M4 14.5h16M10 5v14",
  more: "M12 5.5v.01M12 12v.01M12 18.5v.01",
  download: "M12 4v11M7.5 11 12 15.5 16.5 11M5 20h14",
  upload: "M12 20V9M7.5 12.5 12 8l4.5 4.5M5 4h14",
  add: "M12 5v14M5 12h14",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13M10.5 11v5M13.5 11v5",
  share: "M10 14a4 4 0 0 0 5.7 0l3-3A4 4 0 0 0 13 5.3l-1 1M14 10a4 4 0 0 0-5.7 0l-3 3A4 4 0 0 0 11 18.7l1-1",
  rename: "M5 19h3.5L19 8.5 15.5 5 5 15.5zM13 7.5l3.5 3.5",
  move: "M3 6.5h6l2 2h10V19H3zM9 13.5h6M12.5 11l2.5 2.5-2.5 2.5",
  close: "M6 6l12 12M18 6 6 18",
  clock: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18M12 7.5V12l3 2",
  people: "M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7M2.5 20c0-4 3-6 6.5-6s6.5 2 6.5 6M16 4.5a3.5 3.5 0 0 1 0 6.5M18 14.5c2.3.8 3.5 2.7 3.5 5.5",
  bucket: "M4 7c0-1.7 3.6-3 8-3s8 1.3 8 3-3.6 3-8 3-8-1.3-8-3M4 7l2 11.5c.3 1 3 1.8 6 1.8s5.7-.8 6-1.8L20 7",
  jupyter: "M8 5H4v15h15v-4M13 4h7v7M20 4l-9 9",
  restore: "M4 12a8 8 0 1 0 2.5-5.8L4 8.5M4 4v4.5h4.5",
  previous: "M15 5l-7 7 7 7",
  next: "M9 5l7 7-7 7",
  pause: "M9 6v12M15 6v12",
  play: "M8 5.5v13l10-6.5z",
  keyboard: "M3 6h18v12H3zM7 10h.01M11 10h.01M15 10h.01M8 14h8",
  refresh: "M20 12a8 8 0 1 1-2.5-5.8L20 8.5M20 4v4.5h-4.5",
  down: "M6 9.5l6 6 6-6",
  up: "M6 15l6-6 6 6",
};

/** A picture that says nothing to a screen reader: words are beside it. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", `st-icon st-icon-${name}`);
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

/** A button with a picture; `label` alone is heard where `words` is false. */
export function button(label, { picture, look = "", words = true, ...properties }) {
  return element(
    "button",
    {
      type: "button",
      class: `st-button ${look}`,
      ...(words ? {} : { "aria-label": label, title: label }),
      ...properties,
    },
    picture && icon(picture),
    words && element("span", {}, label),
  );
}

let spoken = 0;

/** Have a sentence read out, also when it is the same as before. */
export function announce(text) {
  const region = document.getElementById("announcements");
  const place = document.querySelector("dialog[open]:modal") || document.body;
  if (region.parentElement !== place) place.append(region); // outside a modal dialog it is mute
  region.textContent = "";
  const turn = (spoken += 1);
  setTimeout(() => {
    if (turn === spoken) region.textContent = text;
  }, 60);
}
