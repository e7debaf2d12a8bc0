// The editor of a mail's source: line numbers, Tab, merge tags at the cursor, jumping to a line.
// It works on every textarea.code-area, and without JavaScript there is still the textarea.

const LINE_HEIGHT = 20; // pixels, as in content.css

function dress(area) {
  if (area.parentElement.classList.contains("code-editor")) return;
  const frame = document.createElement("div");
  frame.className = "code-editor";
  const gutter = document.createElement("div");
  gutter.className = "code-gutter";
  gutter.setAttribute("aria-hidden", "true");
  area.replaceWith(frame);
  frame.append(gutter, area);
  let shown = 0;
  const number = () => {
    const lines = area.value.split("\n").length;
    if (lines === shown) return;
    shown = lines;
    gutter.textContent = Array.from({ length: lines }, (_, index) => index + 1).join("\n") + "\n\n";
  };
  const follow = () => (gutter.scrollTop = area.scrollTop);
  area.addEventListener("input", () => {
    number();
    follow();
  });
  area.addEventListener("scroll", follow, { passive: true });
  area.addEventListener("keydown", (event) => indent(event, area));
  number();
}

// Esc gives the next Tab back to the keyboard's own way through the page.
let leaving = false;

function indent(event, area) {
  if (event.key === "Escape") {
    leaving = true;
    return;
  }
  if (event.key !== "Tab" || leaving || event.ctrlKey || event.metaKey || event.altKey) {
    leaving = leaving && event.key === "Shift";
    return;
  }
  event.preventDefault();
  const { selectionStart: start, selectionEnd: end, value } = area;
  const from = value.lastIndexOf("\n", start - 1) + 1;
  if (start === end && !event.shiftKey) {
    write(area, "  ");
    return;
  }
  const lines = value.slice(from, end).split("\n");
  const moved = lines.map((line) => (event.shiftKey ? line.replace(/^( {1,2}|\t)/, "") : `  ${line}`));
  area.setSelectionRange(from, end);
  write(area, moved.join("\n"));
  area.setSelectionRange(from, from + moved.join("\n").length);
}

/** Put `text` in place of the selection; the browser's undo knows of it where it can. */
function write(area, text) {
  area.focus();
  if (!document.execCommand("insertText", false, text)) {
    area.setRangeText(text, area.selectionStart, area.selectionEnd, "end");
    area.dispatchEvent(new InputEvent("input", { bubbles: true }));
  }
}

export function jumpTo(area, line) {
  const lines = area.value.split("\n");
  const wanted = Math.min(Math.max(line, 1), lines.length);
  const start = lines.slice(0, wanted - 1).reduce((sum, text) => sum + text.length + 1, 0);
  area.focus({ preventScroll: true });
  area.setSelectionRange(start, start + lines[wanted - 1].length);
  area.scrollTop = Math.max(0, (wanted - 4) * LINE_HEIGHT);
  area.closest(".code-editor")?.scrollIntoView({ block: "nearest" });
}

// Merge tags go where the cursor was last: in the subject as well as in the body.
let target = null;
document.addEventListener("focusin", (event) => {
  if (event.target.matches("[data-source]:is(textarea, input)")) target = event.target;
});
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-insert]");
  if (!button) return;
  const place = target?.isConnected ? target : document.querySelector("textarea.code-area");
  button.closest("details")?.removeAttribute("open");
  if (place) write(place, button.dataset.insert);
});

// Two editors: the second may save over the first after having been told.
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-overwrite]");
  const form = button?.closest("form");
  if (!form) return;
  form.elements.namedItem("version").value = button.dataset.overwrite;
  form.requestSubmit();
});

// The plain-text part belongs to HTML and MJML only.
function showTextPart() {
  const part = document.querySelector("[data-text-part]");
  const kind = document.querySelector('[data-source="kind"]');
  if (part && kind) part.hidden = kind.value === "text";
}

document.addEventListener("change", (event) => {
  if (event.target.matches('[data-source="kind"]')) showTextPart();
});

document.addEventListener("htmx:afterRequest", (event) => {
  const name = document.querySelector("#template-form [name=name]")?.value.trim();
  const heading = document.querySelector("h1");
  if (event.detail.successful && event.detail.elt.id === "template-form" && name && heading) {
    heading.textContent = name;
  }
});

// A refusal is told where the person looks, however far down they are.
document.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target.id !== "save-outcome") return;
  const notice = event.detail.target.querySelector(".notice");
  const box = notice?.getBoundingClientRect();
  if (box && (box.top < 64 || box.bottom > innerHeight)) notice.scrollIntoView({ block: "center" });
});

async function load(place) {
  const answer = await fetch(place.dataset.load);
  if (answer.ok) place.outerHTML = await answer.text();
}

for (const area of document.querySelectorAll("textarea.code-area")) dress(area);
for (const place of document.querySelectorAll("[data-load]")) load(place);
showTextPart();
