// The console's only script: live parts, keys, local times, copying. All pages work without it.
const $ = (query, from = document) => from.querySelector(query);
const all = (query, from = document) => [...from.querySelectorAll(query)];
const policy = window.trustedTypes?.createPolicy("xco", { createHTML: (html) => html });
const trusted = (html) => (policy ? policy.createHTML(html) : html);
const store = { get: (key) => { try { return localStorage.getItem(key); } catch { return null; } },
  set: (key, value) => { try { localStorage.setItem(key, value); } catch { /* private windows may refuse */ } } };
document.documentElement.classList.add("has-script");

// Times: local in the tooltip, or first if the reader wants it so.
const two = (number) => String(number).padStart(2, "0");
const localFirst = () => store.get("xco-zone") === "local";
function times(from) {
  for (const time of all("time[datetime]", from)) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    time.dataset.utc ??= time.textContent;
    const local = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
    time.title = localFirst() ? `${time.dateTime}` : `${at.toLocaleString()} here`;
    time.textContent = localFirst() ? `${local} here` : time.dataset.utc;
  }
}

// Says a sentence to screen readers, at most every 15 s.
let saidAt = 0;
function say(text) {
  if (Date.now() - saidAt < 15000) return;
  saidAt = Date.now();
  $("#said").textContent = text;
}

// Live parts. One stream a tab; none while the tab is hidden.
const sign = $("#sign");
const address = document.body.dataset.live;
let source, failures = 0, again, hideTimer, held = false, ended = false, lastAt = "";
const waiting = new Map();

function showSign(state, text, button) {
  if (!sign) return;
  sign.dataset.state = state;
  sign.textContent = text;
  if (button) {
    const retry = document.createElement("button");
    retry.type = "button";
    retry.textContent = "Try now";
    retry.onclick = () => { failures = 0; connect(); };
    sign.append(" ", retry);
  }
}

// A part does not change under a pointer, the focus, a selection or an open dialog.
function isBusy(part) {
  const selection = getSelection();
  return held || $("dialog[open]") || part.matches(":hover") && matchMedia("(hover: hover)").matches && $("a:hover, button:hover, summary:hover", part)
    || part.contains(document.activeElement) || (selection && !selection.isCollapsed && part.contains(selection.anchorNode));
}
function put(id, html) {
  const part = document.getElementById(id);
  if (!part) return;
  if (isBusy(part)) { waiting.set(id, html); return; }
  waiting.delete(id);
  const folds = all("details", part).map((fold) => fold.open);
  part.innerHTML = trusted(html);
  all("details", part).forEach((fold, index) => { if (index in folds) fold.open = folds[index]; });
  times(part);
  if (id === "verdict") {
    const text = part.textContent.trim();
    if (text !== part.dataset.said) { part.dataset.said = text; say($("h1", part)?.textContent ?? text); }
  }
}
setInterval(() => { for (const [id, html] of waiting) put(id, html); }, 500);

function connect() {
  clearTimeout(again);
  source?.close();
  if (!address || ended || document.hidden) return;
  source = new EventSource(address);
  source.addEventListener("part", (event) => { const { id, html } = JSON.parse(event.data); put(id, html); });
  source.addEventListener("tick", (event) => {
    const { at, slow } = JSON.parse(event.data);
    failures = 0;
    lastAt = at.slice(11, 19);
    $("main").classList.remove("stale");
    if (!held) showSign("live", slow ? `live, slowly ${lastAt}` : `live ${lastAt}`);
  });
  source.addEventListener("stale", () => { $("main").classList.add("stale"); showSign("lost", `figures of ${lastAt || "before"}`); });
  // What the page shows does not change any more.
  source.addEventListener("end", () => {
    ended = true;
    source.close();
    showSign("ended", `as of ${lastAt}`);
  });
  source.addEventListener("session", () => {
    ended = true;
    source.close();
    showSign("lost", "");
    const link = document.createElement("a");
    link.href = `/console/login?next=${encodeURIComponent(location.pathname + location.search)}`;
    link.textContent = "Log in again";
    sign?.append(link);
  });
  source.onerror = () => {
    source.close();
    failures += 1;
    if (failures >= 3) showSign("lost", `Live updates lost at ${lastAt || "the start"}; these figures are from then.`, true);
    const delay = Math.min(30000, 1000 * 2 ** (failures - 1)) * (0.5 + Math.random());
    again = setTimeout(connect, delay);
  };
}
document.addEventListener("visibilitychange", () => {
  clearTimeout(hideTimer);
  if (document.hidden) hideTimer = setTimeout(() => source?.close(), 30000);
  else if (!source || source.readyState === 2) connect();
});
addEventListener("pagehide", () => source?.close());
addEventListener("pageshow", (event) => { if (event.persisted) connect(); });
addEventListener("beforeprint", () => { held = true; });
addEventListener("afterprint", () => { held = false; });
function hold() {
  held = !held;
  showSign(held ? "held" : "live", held ? `held at ${lastAt}` : `live ${lastAt}`);
}

// Copying, also where the clipboard is not to be had (plain HTTP).
async function copy(button) {
  const text = button.dataset.copy || location.href;
  try { await navigator.clipboard.writeText(text); } catch {
    const field = document.createElement("textarea");
    field.value = text;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  button.dataset.label ??= button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = button.dataset.label; }, 1500);
}

// Help, in a dialog of its own.
const HELP = [["/", "search"], ["g, then o j d c b r a", "a page"], ["j k", "rows"], ["Enter", "open"],
  [".", "hold live updates"], ["?", "this help"], ["Esc", "close"]];
function help() {
  let dialog = $("#help");
  if (!dialog) {
    dialog = document.createElement("dialog");
    dialog.id = "help";
    dialog.setAttribute("aria-label", "Keys");
    const list = document.createElement("dl");
    list.className = "facts";
    for (const [keys, what] of HELP) {
      const dt = document.createElement("dt"), dd = document.createElement("dd"), kbd = document.createElement("kbd");
      kbd.textContent = keys;
      dd.textContent = what;
      dt.append(kbd);
      list.append(dt, dd);
    }
    const form = document.createElement("form"), close = document.createElement("button");
    form.method = "dialog";
    close.textContent = "Close";
    form.append(close);
    dialog.append(list, form);
    document.body.append(dialog);
  }
  dialog.showModal();
}

// Keys, none of them in a field. They can be switched off.
let g = false;
const rows = () => all("[data-row]");
function move(by) {
  const list = rows();
  const at = list.findIndex((row) => row.contains(document.activeElement));
  const next = list[Math.max(0, Math.min(list.length - 1, at + by))];
  $("a", next)?.focus();
}
document.addEventListener("keydown", (event) => {
  const field = event.target.closest?.("input, select, textarea, [contenteditable]");
  if (event.ctrlKey || event.metaKey || event.altKey || field || store.get("xco-keys") === "off" || $("dialog[open]")) return;
  const { key } = event;
  if (g) {
    g = false;
    const link = $(`.pages a[data-key="${CSS.escape(key)}"]`);
    if (link) { event.preventDefault(); link.click(); }
    return;
  }
  if (key === "/") { event.preventDefault(); $("#q")?.focus(); }
  else if (key === "g") { g = true; setTimeout(() => { g = false; }, 1500); }
  else if (key === "j") move(1);
  else if (key === "k") move(-1);
  else if (key === "." && address) hold();
  else if (key === "?") help();
});
document.addEventListener("click", (event) => {
  const button = event.target.closest?.("[data-copy], [data-do]");
  if (!button) return;
  if ("copy" in button.dataset) copy(button);
  else if (button.dataset.do === "zone") { store.set("xco-zone", localFirst() ? "utc" : "local"); times(document); }
  else if (button.dataset.do === "keys") {
    const off = store.get("xco-keys") !== "off";
    store.set("xco-keys", off ? "off" : "on");
    button.textContent = off ? "Keys are off" : "Keys are on";
  }
});
// What was typed is not lost by a fold that closes itself.
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") all("details.me[open], details.more[open]").forEach((fold) => { fold.open = false; });
});
times(document);
connect();
