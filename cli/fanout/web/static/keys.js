// Everything by the keyboard: moving in lists, going to pages, the search, dialogs, the theme.

const PAGES = { r: "/runs", e: "/events", f: "/functions", g: "/graph", s: "/stats", n: "/send" };
const THEMES = [undefined, "light", "dark"];
const GO_WITHIN_MS = 1200;
const root = document.documentElement;
const dialog = document.getElementById("keys");
let goingSince = -Infinity;

function changeTheme() {
  const next = THEMES[(THEMES.indexOf(root.dataset.theme) + 1) % THEMES.length];
  if (next) {
    root.dataset.theme = next;
    localStorage.setItem("fanout-theme", next);
  } else {
    delete root.dataset.theme;
    localStorage.removeItem("fanout-theme");
  }
}

function move(by) {
  const rows = [...document.querySelectorAll("main [data-row]")].filter((row) => row.offsetParent !== null);
  if (!rows.length) return;
  const at = rows.findIndex((row) => row.contains(document.activeElement));
  const to = at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, at + by));
  const link = rows[to].querySelector(".row-link, a, summary");
  link?.focus({ preventScroll: true });
  rows[to].scrollIntoView({ block: "nearest" });
}

function follow(selector) {
  const link = document.querySelector(selector);
  link?.click();
  return Boolean(link);
}

// A part that asks before it does something.
function open(key) {
  const part = document.querySelector(`main details[data-open-key="${key}"]`);
  if (!part) return false;
  part.open = true;
  part.querySelector("form button:not([data-close])")?.focus();
  return true;
}

function close() {
  for (const part of document.querySelectorAll("details.confirm[open]")) {
    part.open = false;
    if (part.contains(document.activeElement)) part.querySelector("summary").focus();
  }
}

function isTyping(target) {
  return target instanceof HTMLElement && target.matches("input:not([type=checkbox], [type=radio]), select, textarea, [contenteditable]");
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    if (isTyping(event.target)) event.target.blur();
    close();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target) || dialog.open) return;
  if (press(event.key)) event.preventDefault();
});

function press(key) {
  const isGoing = performance.now() - goingSince < GO_WITHIN_MS;
  goingSince = -Infinity;
  if (isGoing && PAGES[key]) {
    location.assign(PAGES[key]);
    return true;
  }
  switch (key) {
    case "g": goingSince = performance.now(); return true;
    case "j": move(1); return true;
    case "k": move(-1); return true;
    case "/": {
      const search = document.querySelector("main [data-search]");
      search?.focus();
      search?.select();
      return Boolean(search);
    }
    case "?": dialog.showModal(); return true;
    case "t": changeTheme(); return true;
    case "[": case "]": return follow(`main [data-key="${key}"]`);
    default: return /^[a-z]$/.test(key) && open(key);
  }
}

document.addEventListener("click", (event) => {
  const target = event.target instanceof Element ? event.target : null;
  if (!target) return;
  if (target.closest("[data-theme-toggle]")) changeTheme();
  if (target.closest("[data-keys-open]")) dialog.showModal();
  if (target.closest("[data-close]")) {
    target.closest("dialog")?.close();
    close();
  }
  if (target === dialog) dialog.close();
  // A click elsewhere is a no.
  for (const part of document.querySelectorAll("details.confirm[open]")) if (!part.contains(target)) part.open = false;
});

// Filters apply as soon as they are chosen.
document.addEventListener("change", (event) => {
  if (event.target instanceof HTMLSelectElement && event.target.closest("form[data-at-once]")) event.target.form.requestSubmit();
});

// Nothing is asked for twice by a double click.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!(form instanceof HTMLFormElement) || form.method !== "post") return;
  if (form.dataset.isSent) event.preventDefault();
  form.dataset.isSent = "yes";
});
addEventListener("pageshow", () => { for (const form of document.forms) delete form.dataset.isSent; });
