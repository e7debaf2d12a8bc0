// What every page shares: theme, menu, pop-ups, toasts, dialogs, copying, times, htmx's errors.
// Each part listens on the document, so that what htmx brings in later works as well.

const on = (type, selector, handler) =>
  document.addEventListener(type, (event) => {
    const found = event.target instanceof Element ? event.target.closest(selector) : null;
    if (found) handler(event, found);
  });

// Theme ------------------------------------------------------------------------------------------

const root = document.documentElement;
const prefersDark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () =>
  root.dataset.theme ? root.dataset.theme.endsWith("dark") : prefersDark.matches;

function showTheme() {
  const dark = isDark();
  for (const button of document.querySelectorAll("[data-theme-toggle]")) {
    button.setAttribute("aria-label", `Change to the ${dark ? "light" : "dark"} theme`);
    for (const part of button.querySelectorAll("[data-theme-icon]")) {
      part.hidden = (part.dataset.themeIcon === "dark") !== dark;
    }
  }
}

on("click", "[data-theme-toggle]", () => {
  const next = isDark() ? "light" : "dark";
  root.dataset.theme = `mailwright-${next}`;
  try {
    localStorage.setItem("theme", next);
  } catch {
    // Not kept; the page still changes.
  }
  showTheme();
});
prefersDark.addEventListener("change", showTheme);
showTheme();

// The menu on narrow screens ---------------------------------------------------------------------

const opener = document.querySelector("[data-sidebar-open]");
const sidebar = document.getElementById("sidebar");

function setSidebar(open) {
  document.body.classList.toggle("sidebar-open", open);
  opener?.setAttribute("aria-expanded", String(open));
  if (open) sidebar?.querySelector("a, button")?.focus();
}

on("click", "[data-sidebar-open]", () => setSidebar(true));
on("click", "[data-sidebar-close]", () => {
  setSidebar(false);
  opener?.focus();
});

// Pop-ups (details) ------------------------------------------------------------------------------

function closePops(except) {
  for (const pop of document.querySelectorAll("details[data-pop][open]")) {
    if (pop !== except) pop.open = false;
  }
}

document.addEventListener("click", (event) => {
  closePops(event.target instanceof Element ? event.target.closest("details[data-pop]") : null);
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    const pop = document.querySelector("details[data-pop][open]");
    if (pop) {
      pop.open = false;
      pop.querySelector("summary")?.focus();
    } else if (document.body.classList.contains("sidebar-open")) {
      setSidebar(false);
      opener?.focus();
    }
    return;
  }
  const typing = event.target instanceof Element && event.target.closest("input, textarea, select, [contenteditable]");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    const search = document.querySelector("[data-search], #main input[type=search]");
    if (search) {
      event.preventDefault();
      search.focus();
      search.select();
    }
  }
});

// Toasts -----------------------------------------------------------------------------------------

const toasts = document.getElementById("toasts");
const LASTS_MS = { success: 5000, info: 6000, warning: 10000 };

function dismiss(note) {
  note.classList.add("leaving");
  setTimeout(() => note.remove(), 220);
}

function watch(note) {
  if (note.dataset.watched) return;
  note.dataset.watched = "yes";
  const lasts = LASTS_MS[note.dataset.toast];
  if (!lasts) return; // errors stay until they are dismissed
  let timer = setTimeout(() => dismiss(note), lasts);
  note.addEventListener("pointerenter", () => clearTimeout(timer));
  note.addEventListener("focusin", () => clearTimeout(timer));
  note.addEventListener("pointerleave", () => {
    timer = setTimeout(() => dismiss(note), 2000);
  });
}

on("click", "[data-toast-close]", (_, button) => dismiss(button.closest("[data-toast]")));

if (toasts) {
  const watchAll = () => {
    for (const note of toasts.querySelectorAll("[data-toast]")) watch(note);
  };
  new MutationObserver(watchAll).observe(toasts, { childList: true });
  watchAll();
}

/** Show a sentence at the corner; kind: "info", "success", "warning" or "error". */
export function toast(text, kind = "info") {
  const form = document.querySelector(`[data-toast-template="${kind}"]`);
  if (!toasts || !form) return;
  const note = form.content.firstElementChild.cloneNode(true);
  note.querySelector("[data-toast-text]").textContent = text;
  toasts.append(note);
}

// Copying ----------------------------------------------------------------------------------------

async function copyText(text) {
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // Not allowed here (plain http): the old way below.
    }
  }
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "sr-only";
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done;
}

async function copied(button, text) {
  const done = await copyText(text);
  button.focus();
  if (!done) {
    toast("The browser does not allow copying here. Select the text and copy it.", "warning");
    return;
  }
  const idle = button.querySelector("[data-copy-idle]");
  const tick = button.querySelector("[data-copy-done]");
  if (idle && tick) {
    idle.hidden = true;
    tick.hidden = false;
    setTimeout(() => {
      idle.hidden = false;
      tick.hidden = true;
    }, 1600);
  }
  announce("Copied");
}

function announce(text) {
  let live = document.getElementById("announcer");
  if (!live) {
    live = document.createElement("div");
    live.id = "announcer";
    live.className = "sr-only";
    live.setAttribute("aria-live", "polite");
    document.body.append(live);
  }
  live.textContent = "";
  setTimeout(() => (live.textContent = text), 50);
}

on("click", "[data-copy]", (_, button) => copied(button, button.dataset.copy));
on("click", "[data-copy-from]", (_, button) => {
  const source = button.parentElement.querySelector(button.dataset.copyFrom);
  if (source) copied(button, source.textContent);
});

// Dialogs ----------------------------------------------------------------------------------------

on("click", "[data-open-dialog]", (_, button) => {
  document.getElementById(button.dataset.openDialog)?.showModal();
});
on("click", "[data-close-dialog]", (_, button) => button.closest("dialog")?.close());
on("click", "[data-back]", () => (history.length > 1 ? history.back() : location.assign("/")));

/** Ask in the page's own dialog; resolves to whether the person agreed. */
export function confirmStep(text, { detail = "", ok = "Continue", danger = false } = {}) {
  const dialog = document.getElementById("confirm-dialog");
  if (!dialog) return Promise.resolve(true);
  dialog.querySelector("[data-confirm-text]").textContent = text;
  const more = dialog.querySelector("[data-confirm-detail]");
  more.textContent = detail;
  more.hidden = !detail;
  const button = dialog.querySelector("[data-confirm-ok]");
  button.textContent = ok;
  button.classList.toggle("btn-error", danger);
  button.classList.toggle("btn-primary", !danger);
  dialog.returnValue = "cancel";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "ok"), { once: true });
  });
}

function wishes(element) {
  const label = element.dataset.confirmOk;
  return {
    detail: element.dataset.confirmDetail ?? "",
    ok: label ?? "Continue",
    danger: element.hasAttribute("data-confirm-danger"),
  };
}

// A form or button with data-confirm="…" asks first. htmx asks by its own event below.
const agreed = new WeakSet();
document.addEventListener(
  "submit",
  async (event) => {
    const form = event.target;
    const button = event.submitter;
    const asker = button?.dataset.confirm ? button : form.dataset.confirm ? form : null;
    if (!asker || agreed.has(form) || isHtmx(form) || (button && isHtmx(button))) return;
    event.preventDefault();
    event.stopPropagation();
    if (!(await confirmStep(asker.dataset.confirm, wishes(asker)))) return;
    agreed.add(form);
    form.requestSubmit(button ?? undefined);
    agreed.delete(form);
  },
  true,
);

const isHtmx = (element) =>
  ["hx-post", "hx-get", "hx-put", "hx-patch", "hx-delete"].some((name) => element.hasAttribute(name));

document.addEventListener("htmx:confirm", async (event) => {
  const button = event.detail.triggeringEvent?.submitter;
  const asker = button?.dataset.confirm ? button : event.detail.elt;
  const text = asker.dataset.confirm ?? event.detail.question;
  if (!text) return;
  event.preventDefault();
  if (await confirmStep(text, wishes(asker))) event.detail.issueRequest(true);
});

// Forms: sent once, and not left by mistake ------------------------------------------------------

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || isHtmx(form) || form.method === "dialog") return;
  delete form.dataset.dirty;
  if (form.dataset.sent) {
    event.preventDefault();
    return;
  }
  if (form.method === "post" && !form.target && !form.hasAttribute("data-again")) {
    form.dataset.sent = "yes";
    event.submitter?.setAttribute("aria-busy", "true");
  }
});

addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) {
    delete form.dataset.sent;
    form.querySelector("[aria-busy]")?.removeAttribute("aria-busy");
  }
});

on("input", "form[data-guard]", (_, form) => (form.dataset.dirty = "yes"));
addEventListener("beforeunload", (event) => {
  if (document.querySelector("form[data-guard][data-dirty]")) event.preventDefault();
});

// A form with data-autosave says how far it is in [data-autosave-state] (inside it or on the page).
function autosaveState(element, state) {
  const form = element.closest("[data-autosave]");
  if (!form) return;
  const place =
    form.querySelector("[data-autosave-state]") ?? document.querySelector("[data-autosave-state]");
  if (!place) return;
  place.dataset.state = state;
  place.textContent = { saving: "Saving…", saved: "Saved", failed: "Not saved" }[state];
  if (state === "saved") delete form.dataset.dirty;
}

document.addEventListener("htmx:beforeRequest", (event) => autosaveState(event.detail.elt, "saving"));
document.addEventListener("htmx:afterRequest", (event) =>
  autosaveState(event.detail.elt, event.detail.successful ? "saved" : "failed"),
);

// htmx: errors are said, never swallowed ---------------------------------------------------------

document.addEventListener("htmx:beforeSwap", (event) => {
  const { xhr } = event.detail;
  if (xhr.status < 400 || xhr.status === 422 || xhr.getResponseHeader("HX-Retarget")) return;
  event.detail.shouldSwap = false;
  const sentence = {
    403: "You may not do this. Reload the page and try again.",
    404: "This is no longer there. Reload the page.",
    413: "That is too large.",
    429: "That was too fast. Wait a moment and try again.",
  }[xhr.status];
  toast(sentence ?? "Something broke on our side. Please try again.", "error");
});

let offline = false;
const unreachable = () => {
  if (!offline) toast("The server cannot be reached. What you see may be out of date.", "error");
  offline = true;
};
document.addEventListener("htmx:sendError", unreachable);
document.addEventListener("htmx:timeout", unreachable);
document.addEventListener("htmx:afterOnLoad", () => (offline = false));

// A sign-in page inside a part of a page helps nobody: go there whole.
document.addEventListener("htmx:beforeSwap", (event) => {
  if (new URL(event.detail.xhr.responseURL || location.href).pathname.startsWith("/sign-in")) {
    event.detail.shouldSwap = false;
    location.reload();
  }
});

// Times in the reader's zone ---------------------------------------------------------------------

const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const exactSeconds = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });
const UNITS = [
  ["day", 86400],
  ["hour", 3600],
  ["minute", 60],
];

function ago(when) {
  const seconds = (when - Date.now()) / 1000;
  if (Math.abs(seconds) < 45) return "just now";
  if (Math.abs(seconds) > 30 * 86400) return null;
  const [unit, size] = UNITS.find(([, size]) => Math.abs(seconds) >= size) ?? UNITS.at(-1);
  return relative.format(Math.round(seconds / size), unit);
}

function showTimes(within = document) {
  for (const element of within.querySelectorAll("time[datetime]")) {
    const text = element.getAttribute("datetime");
    if (!text.includes("T")) continue; // a day without a time has no zone
    const when = new Date(text);
    if (Number.isNaN(when.getTime())) continue;
    const near = ago(when);
    const short = (element.hasAttribute("data-seconds") ? exactSeconds : exact).format(when);
    if (element.hasAttribute("data-relative")) {
      element.textContent = near ?? short;
      element.title = full.format(when);
    } else {
      element.textContent = short;
      element.title = near ? `${near} – ${full.format(when)}` : full.format(when);
    }
  }
}

showTimes();
setInterval(() => showTimes(), 30000);
document.addEventListener("htmx:afterSettle", (event) => showTimes(event.target.parentElement ?? document));

// A form that came back with mistakes -------------------------------------------------------------

const mistake = document.querySelector("form[method=post i] [aria-invalid=true]:not(fieldset)");
// Where the page has a field of its own to begin with, that one stays.
if (mistake && (document.activeElement === document.body || !document.activeElement)) {
  mistake.focus({ preventScroll: true });
  mistake.scrollIntoView({ block: "center" });
}
