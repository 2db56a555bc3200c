// Keeps the page as the journal is, without a reload: the server says that something has changed, the page is fetched
// again, and what differs is put in place. Focus, open parts, scroll positions and typed text stay.
import { Idiomorph } from "./vendor/idiomorph.esm.js";

const LEAST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 15_000;
const TICK_MS = 1000;
const LOOK_ANYWAY_MS = 10_000;
const MOST_MARKED = 12;
const root = document.documentElement;
const main = () => document.getElementById("main");
const isLive = () => main()?.hasAttribute("data-live") ?? false;

// Looking again

let isLooking = false;
let hasNews = false;
let notBefore = 0;
let waiting = null;

function look() {
  hasNews = true;
  if (isLooking || waiting || document.hidden || !isLive()) return;
  waiting = setTimeout(lookNow, Math.max(0, notBefore - performance.now()));
}

async function lookNow() {
  waiting = null;
  isLooking = true;
  hasNews = false;
  const began = performance.now();
  const url = location.href;
  try {
    const answer = await fetch(url, { headers: { "X-Fanout-Live": "1", Accept: "text/html" }, credentials: "same-origin" });
    const text = await answer.text();
    if (answer.ok && answer.headers.get("content-type")?.startsWith("text/html") && url === location.href) show(text);
  } catch {
    // The event source notices the same, and says so.
  } finally {
    isLooking = false;
    // What takes long is not asked for all the time.
    const took = performance.now() - began;
    notBefore = performance.now() + Math.min(LONGEST_PAUSE_MS, Math.max(LEAST_PAUSE_MS, 2 * took));
    if (hasNews) look();
  }
}

function show(text) {
  const next = new DOMParser().parseFromString(text, "text/html");
  const there = main(), fresh = next.getElementById("main");
  if (!there || !fresh) return;
  const added = [];
  const tails = [...there.querySelectorAll("[data-tail]")].filter((tail) => tail.scrollTop + tail.clientHeight >= tail.scrollHeight - 4);
  Idiomorph.morph(there, fresh, {
    morphStyle: "outerHTML",
    ignoreActiveValue: true,
    callbacks: {
      beforeNodeMorphed: (old) => !(old instanceof Element && (old.hasAttribute("data-keep") || isTyped(old))),
      beforeAttributeUpdated: (name, node) => !(name === "open" && node instanceof HTMLDetailsElement) && !(name === "class" && node.classList.contains("is-new")),
      afterNodeAdded: (node) => {
        if (node instanceof Element && node.matches("[data-row]")) added.push(node);
      },
    },
  });
  if (added.length <= MOST_MARKED) for (const row of added) row.classList.add("is-new");
  for (const tail of tails) tail.scrollTop = tail.scrollHeight;
  const engine = document.getElementById("engine"), now = next.getElementById("engine");
  if (engine && now && engine.dataset.engine !== now.dataset.engine) Idiomorph.morph(engine, now);
  if (next.title) document.title = next.title;
  tick();
  document.dispatchEvent(new CustomEvent("fanout:shown"));
}

// What somebody has typed or chosen, and not sent yet.
function isTyped(node) {
  if (node instanceof HTMLSelectElement) return [...node.options].some((option) => option.selected !== option.defaultSelected) && node.value !== "";
  if (node instanceof HTMLTextAreaElement) return node.value !== node.defaultValue;
  if (!(node instanceof HTMLInputElement) || node.type === "hidden") return false;
  return node.value !== node.defaultValue || node.checked !== node.defaultChecked;
}

document.addEventListener("animationend", (event) => {
  if (event.animationName === "arrive") event.target.classList.remove("is-new");
});

// Hearing of changes. One of the pages that can be seen listens, and passes on what it hears: a browser has six
// connections to a site for all its pages, and a page that listens needs one of them for itself.

let channel = null;
let leave = null;
let source = null;
let again = null;
let pause = 500;

function listen() {
  if (channel || document.hidden) return;
  const own = channel = new BroadcastChannel("fanout");
  own.onmessage = ({ data }) => {
    if (data === "who") {
      if (source && root.dataset.live) own.postMessage(root.dataset.live);
    } else if (data === "news") look();
    else note(data);
  };
  own.postMessage("who");
  const done = new Promise((resolve) => { leave = resolve; });
  // Where the address is not trusted there are no locks: each page listens then.
  if (!navigator.locks) hear();
  else navigator.locks.request("fanout", () => { if (channel === own) { hear(); return done; } });
}

function hear() {
  source = new EventSource("/live");
  source.onopen = () => {
    pause = 500;
    tell("on");
  };
  source.onmessage = () => {
    channel.postMessage("news");
    look();
  };
  source.onerror = () => {
    source.close();
    tell("lost");
    again = setTimeout(hear, pause);
    pause = Math.min(8000, pause * 1.6);
  };
}

function tell(state) {
  channel.postMessage(state);
  note(state);
}

function note(state) {
  if (state === "on" && root.dataset.live !== "on") look();
  root.dataset.live = state;
}

function hush() {
  clearTimeout(again);
  source?.close();
  channel?.close();
  leave?.();
  source = channel = leave = null;
}

// Time that goes on by itself. The server's clock is the one that counts.

let ahead = 0;

export function duration(ms) {
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  const s = ms / 1000;
  if (s < 60) return `${s.toFixed(1)} s`;
  const all = Math.round(s), m = Math.floor(all / 60);
  return m < 60 ? `${m} m ${all % 60} s` : `${Math.floor(m / 60)} h ${m % 60} m`;
}

export function ago(ms) {
  const s = Math.floor(Math.abs(ms) / 1000);
  if (s < 2) return "now";
  const [length, unit] = s < 60 ? [1, "s"] : s < 3600 ? [60, "min"] : s < 86400 ? [3600, "h"] : [86400, "d"];
  // What has passed is said when it is full; what is to come, to the nearest.
  const number = ms < 0 ? Math.round(s / length) : Math.floor(s / length);
  return ms < 0 ? `in ${number} ${unit}` : `${number} ${unit} ago`;
}

function tick() {
  const now = Date.now() + ahead;
  for (const each of document.querySelectorAll("[data-since]")) write(each, duration(now - Number(each.dataset.since)));
  for (const each of document.querySelectorAll("[data-ago]")) write(each, ago(now - Number(each.dataset.at)));
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function setClock() {
  const now = Number(main()?.dataset.now);
  // A page that was kept by the browser is old: only a fresh one tells the time.
  const [entry] = performance.getEntriesByType("navigation");
  if (now && entry?.type !== "back_forward") ahead = now - (performance.timeOrigin + entry.responseStart);
}

// What is growing is drawn again now and then, though nothing changes in the journal.

setInterval(() => {
  if (document.hidden) return;
  tick();
  if (main()?.hasAttribute("data-growing")) look();
}, TICK_MS);

// Whether an engine runs is not in the journal.
setInterval(look, LOOK_ANYWAY_MS);

// Copying

document.addEventListener("click", async (event) => {
  const button = event.target instanceof Element ? event.target.closest("[data-copy]") : null;
  if (!button) return;
  const text = button.dataset.copy || button.closest(".value")?.querySelector("pre")?.textContent || "";
  await navigator.clipboard.writeText(text);
  const label = button.lastChild;
  button.dataset.isCopied = "yes";
  if (label.nodeType === Node.TEXT_NODE) label.textContent = "Copied";
  setTimeout(() => {
    delete button.dataset.isCopied;
    if (label.nodeType === Node.TEXT_NODE) label.textContent = "Copy";
  }, 1200);
});

// A message that was read does not come again.

setTimeout(() => {
  const url = new URL(location.href);
  if (url.searchParams.has("said")) {
    url.searchParams.delete("said");
    history.replaceState(history.state, "", url);
    look();
  }
}, 8000);

document.addEventListener("visibilitychange", () => {
  if (document.hidden) hush();
  else { listen(); look(); tick(); }
});
addEventListener("pagehide", hush);
addEventListener("pageshow", (event) => { if (event.persisted) { listen(); look(); } });

setClock();
tick();
for (const tail of document.querySelectorAll("[data-tail]")) tail.scrollTop = tail.scrollHeight;
if (isLive()) listen();
