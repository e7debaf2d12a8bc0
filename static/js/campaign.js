// The campaign's editor, review and report: preview, merge fields, saving before leaving.

const on = (type, selector, handler) =>
  document.addEventListener(type, (event) => {
    const found = event.target instanceof Element ? event.target.closest(selector) : null;
    if (found) handler(event, found);
  });

// Preview ----------------------------------------------------------------------------------------

const pane = document.querySelector("[data-preview]");
const stage = document.querySelector("[data-preview-stage]");
const frame = document.querySelector("[data-preview-frame]");
const chooser = document.getElementById("preview-as");
let view = "desktop";
let shown = "";

function showPreview() {
  const state = document.getElementById("preview-state");
  if (!pane || !state?.dataset.frame) return;
  const query = new URLSearchParams({ key: state.dataset.key });
  if (chooser.value) query.set("as_contact", chooser.value);
  if (view === "dark") query.set("dark", "1");
  if (view === "text") query.set("part", "text");
  const address = `${state.dataset.frame}?${query}`;
  stage.hidden = false;
  frame.style.maxWidth = view === "mobile" ? "390px" : "none";
  // A mail's own dark styles ask for this; the frame inherits it.
  frame.style.colorScheme = view === "dark" ? "dark" : "light";
  if (address !== shown) {
    shown = address;
    frame.src = address;
  }
}

on("click", "[data-view]", (_, button) => {
  view = button.dataset.view;
  for (const other of document.querySelectorAll("[data-view]")) {
    const chosen = other === button;
    other.classList.toggle("btn-active", chosen);
    other.setAttribute("aria-pressed", String(chosen));
  }
  showPreview();
});

document.addEventListener("htmx:afterSettle", showPreview);
chooser?.addEventListener("change", () => {
  document.body.dispatchEvent(new CustomEvent("preview-as"));
});
chooser?.addEventListener("keydown", (event) => {
  if (event.key === "Enter") event.preventDefault();
});

// Merge fields -----------------------------------------------------------------------------------

let lastField = null;
document.addEventListener("focusin", (event) => {
  const field = event.target;
  if (field instanceof Element && field.matches("#form-subject input[type=text], #form-content textarea")) {
    lastField = field;
  }
});

on("click", "[data-insert]", (_, button) => {
  const form = document.getElementById(button.dataset.insertInto);
  const field = form?.contains(lastField)
    ? lastField
    : form?.querySelector("input[type=text], textarea");
  if (!field) return;
  button.closest("details").open = false;
  field.focus();
  field.setRangeText(button.dataset.insert, field.selectionStart, field.selectionEnd, "end");
  field.dispatchEvent(new Event("input", { bubbles: true }));
});

// In the big fields Tab writes spaces, unless Escape was pressed just before: then it moves on.
let leaving = false;
on("keydown", "textarea[data-editor]", (event, area) => {
  if (event.key === "Tab" && !event.shiftKey && !leaving && !event.ctrlKey && !event.altKey) {
    event.preventDefault();
    area.setRangeText("  ", area.selectionStart, area.selectionEnd, "end");
    area.dispatchEvent(new Event("input", { bubbles: true }));
  }
  leaving = event.key === "Escape";
});

// The subject's length ---------------------------------------------------------------------------

function countSubject() {
  const field = document.querySelector("[data-counts]");
  const place = field && document.getElementById(field.dataset.counts);
  if (!place) return;
  // A merge field counts as what it will hold: a name or so.
  const text = field.value.replace(/\{\{.*?\}\}/g, "Charlie").replace(/\{%.*?%\}/g, "");
  const length = [...text].length;
  const good = Number(place.dataset.good);
  if (!length) place.textContent = "Most inboxes show the first 40 to 60 characters.";
  else if (length <= good) place.textContent = `${length} characters: most inboxes show all of it.`;
  else place.textContent = `${length} characters: many inboxes cut it after ${good}.`;
}
on("input", "[data-counts]", countSubject);
countSubject();

// When -------------------------------------------------------------------------------------------

on("change", "[data-when]", (_, radio) => {
  const field = document.querySelector("[data-when-field]");
  field.hidden = radio.dataset.when !== "later";
  if (!field.hidden) field.querySelector("input").focus();
});

// Choosing "later" asks for a time first: nothing is saved until there is one.
document.addEventListener("htmx:configRequest", (event) => {
  const form = event.detail.elt;
  if (!(form instanceof HTMLFormElement)) return;
  const later = form.querySelector("[data-when=later]");
  if (later?.checked && !form.querySelector("[name=scheduled_at]").value) event.preventDefault();
});

// Saving before leaving --------------------------------------------------------------------------

const dirty = new Map(); // form -> how many changes
const failed = new Set();
let running = 0;

const saving = (element) => element.closest?.("form[data-autosave]");
for (const type of ["input", "change"]) {
  document.addEventListener(type, (event) => {
    const form = saving(event.target);
    if (form) dirty.set(form, (dirty.get(form) ?? 0) + 1);
  });
}

const before = new WeakMap();
document.addEventListener("htmx:beforeRequest", (event) => {
  const form = saving(event.detail.elt);
  if (!form) return;
  running += 1;
  before.set(form, dirty.get(form) ?? 0);
});
document.addEventListener("htmx:afterRequest", (event) => {
  const form = saving(event.detail.elt);
  if (!form) return;
  running -= 1;
  if (!event.detail.successful) {
    failed.add(form);
    return;
  }
  failed.delete(form);
  if (dirty.get(form) === before.get(form)) dirty.delete(form);
  if (form.hasAttribute("data-close-after")) form.closest("dialog")?.close();
});

async function saved() {
  for (const form of dirty.keys()) {
    failed.delete(form);
    if (!form.closest("dialog")) form.dispatchEvent(new Event("change", { bubbles: true }));
  }
  const end = Date.now() + 8000;
  do {
    await new Promise((resolve) => setTimeout(resolve, 60));
  } while (running > 0 && Date.now() < end);
  return failed.size === 0;
}

on("click", "[data-review]", async (event, link) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey || (!dirty.size && !running)) return;
  event.preventDefault();
  link.setAttribute("aria-busy", "true");
  const done = await saved();
  link.removeAttribute("aria-busy");
  if (done) location.assign(link.href);
});

on("click", "[data-load-again]", () => failed.clear());
addEventListener("beforeunload", (event) => {
  if (failed.size) event.preventDefault();
});
