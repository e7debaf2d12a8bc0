// The preview beside an editor. It sends what stands in the [data-source] fields, waits while a
// worker compiles it, and shows the answer: in a frame that can run nothing, as text, as a problem.

import { jumpTo } from "./content-editor.js";

const PAUSE = 600; // milliseconds without typing before the mail is made anew
const PATIENCE = [300, 400, 600, 900, 1500, 2500]; // between looks while it is being compiled

class Preview {
  constructor(root) {
    this.root = root;
    this.turn = 0;
    this.view = "desktop";
    this.shown = "";
    this.stage = this.part("stage");
    this.frame = this.part("frame");
    root.addEventListener("click", (event) => this.clicked(event));
    root.addEventListener("keydown", (event) => this.arrows(event));
    this.part("footer")?.addEventListener("change", () => this.ask());
    document.addEventListener("input", (event) => {
      if (event.target.closest("[data-source]")) this.soon();
    });
    this.contacts = root.querySelector("[data-contact-search]");
    if (this.contacts) new ContactSearch(this.contacts, (id) => this.choose(id));
    this.ask();
  }

  part(name) {
    return this.root.querySelector(`[data-preview-${name}]`);
  }

  soon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.ask(), PAUSE);
  }

  choose(id) {
    this.part("contact").value = id;
    this.ask();
  }

  fields() {
    const data = new URLSearchParams();
    for (const field of document.querySelectorAll("[data-source]")) {
      data.set(field.dataset.source, field.value);
    }
    data.set("contact", this.part("contact").value);
    if (this.part("footer")?.checked) data.set("footer", "1");
    return data;
  }

  async ask() {
    const turn = ++this.turn;
    this.stage.setAttribute("aria-busy", "true");
    const headers = JSON.parse(document.body.getAttribute("hx-headers") ?? "{}");
    let answer = await this.fetch(this.root.dataset.preview, {
      method: "POST",
      body: this.fields(),
      headers,
    });
    for (let look = 0; answer?.state === "compiling" && turn === this.turn; look += 1) {
      if (look === 8) this.wait("Still waiting for a worker to take it…");
      await new Promise((done) => setTimeout(done, PATIENCE[Math.min(look, PATIENCE.length - 1)]));
      if (turn === this.turn) answer = await this.fetch(answer.url);
    }
    if (turn === this.turn && answer) this.show(answer);
  }

  async fetch(url, options = {}) {
    try {
      const answer = await fetch(url, options);
      if (answer.ok) return await answer.json();
      return {
        state: "problem",
        problem:
          answer.status === 413 || answer.status === 400
            ? "The content is too large to be shown."
            : "The preview cannot be made at the moment. Reload the page.",
      };
    } catch {
      return { state: "problem", problem: "The server cannot be reached." };
    }
  }

  wait(sentence) {
    const place = this.part("wait");
    place.textContent = sentence;
    place.hidden = Boolean(this.shown);
  }

  show(answer) {
    this.stage.setAttribute("aria-busy", "false");
    this.root.dataset.previewState = answer.state;
    this.problem(answer.state === "problem" ? answer : null);
    this.stage.toggleAttribute("data-stale", answer.state === "problem");
    if (answer.state === "empty") {
      this.answer = null;
      this.shown = "";
      this.part("text").hidden = this.frame.hidden = true;
      this.wait("Write something, and see it here.");
      this.notes([], []);
    }
    if (answer.state === "problem") this.wait("It can be shown when the problem above is solved.");
    if (answer.state !== "ready") return;
    this.answer = answer;
    this.part("subject").textContent = answer.subject || "(no subject)";
    this.part("preheader").textContent = answer.preheader;
    this.notes(answer.missing, answer.notes);
    this.draw();
  }

  draw() {
    this.stage.dataset.view = this.view;
    const answer = this.answer;
    if (!answer) return;
    const asText = this.view === "text" || !answer.has_html;
    this.part("wait").hidden = true;
    this.part("text").hidden = !asText;
    this.frame.hidden = asText;
    this.part("text").textContent = answer.text;
    const url = answer.page + (this.view === "dark" ? "&dark=1" : "");
    if (asText || url === this.shown) return;
    this.shown = url;
    this.frame.src = url;
  }

  problem(answer) {
    const place = this.part("problem");
    place.hidden = !answer;
    const jump = this.part("jump");
    jump.hidden = !(answer?.line && answer.field === "body");
    if (!answer) return;
    this.part("sentence").textContent = answer.problem;
    jump.dataset.line = answer.line ?? "";
    jump.textContent = `Go to line ${answer.line}`;
  }

  notes(missing, notes) {
    const list = this.part("notes");
    const entries = [
      ...missing.map((name) => [`“${name}” is empty here and has no default.`, "missing"]),
      ...notes.map((note) => [note, ""]),
    ];
    list.replaceChildren(
      ...entries.map(([text, css]) => {
        const entry = document.createElement("li");
        entry.textContent = text;
        entry.className = css;
        return entry;
      }),
    );
    list.hidden = entries.length === 0;
  }

  clicked(event) {
    const tab = event.target.closest("[data-preview-tab]");
    if (tab) this.select(tab);
    const jump = event.target.closest("[data-preview-jump]");
    const area = document.querySelector('textarea[data-source="body"]');
    if (jump && area) jumpTo(area, Number(jump.dataset.line));
  }

  select(tab) {
    for (const other of this.root.querySelectorAll("[data-preview-tab]")) {
      other.setAttribute("aria-selected", String(other === tab));
      other.tabIndex = other === tab ? 0 : -1;
    }
    this.view = tab.dataset.previewTab;
    this.draw();
  }

  arrows(event) {
    const tab = event.target.closest("[data-preview-tab]");
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!tab || !step) return;
    const tabs = [...this.root.querySelectorAll("[data-preview-tab]")];
    const next = tabs[(tabs.indexOf(tab) + step + tabs.length) % tabs.length];
    next.focus();
    this.select(next);
  }
}

/** A combobox over the tenant's contacts (WAI-ARIA: editable, with a list). */
class ContactSearch {
  constructor(root, chosen) {
    this.root = root;
    this.chosen = chosen;
    this.input = root.querySelector("input");
    this.list = root.querySelector("[role=listbox]");
    this.clear = root.querySelector("[data-contact-clear]");
    this.turn = 0;
    this.input.addEventListener("input", () => this.soon());
    this.input.addEventListener("focus", () => this.find());
    this.input.addEventListener("blur", () => setTimeout(() => this.close(), 150));
    this.input.addEventListener("keydown", (event) => this.key(event));
    this.list.addEventListener("mousedown", (event) => {
      event.preventDefault();
      const option = event.target.closest("[role=option]");
      if (option) this.take(option);
    });
    this.clear.addEventListener("click", () => {
      this.input.value = "";
      this.clear.hidden = true;
      this.chosen("");
      this.input.focus();
    });
  }

  soon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.find(), 200);
  }

  async find() {
    const turn = ++this.turn;
    const query = new URLSearchParams({ q: this.clear.hidden ? this.input.value : "" });
    let contacts = [];
    try {
      const answer = await fetch(`${this.root.dataset.contactSearch}?${query}`);
      if (answer.ok) contacts = (await answer.json()).contacts;
    } catch {
      return;
    }
    if (turn !== this.turn || document.activeElement !== this.input) return;
    this.list.replaceChildren(...contacts.map((contact, index) => this.option(contact, index)));
    if (contacts.length === 0) {
      const none = document.createElement("p");
      none.className = "quiet px-2.5 py-2";
      none.textContent = "No contact is called that.";
      this.list.append(none);
    }
    this.list.hidden = false;
    this.input.setAttribute("aria-expanded", "true");
  }

  option(contact, index) {
    const option = document.createElement("div");
    option.className = "menu-item cursor-pointer flex-col items-start gap-0";
    option.id = `preview-contact-${index}`;
    option.setAttribute("role", "option");
    option.setAttribute("aria-selected", "false");
    option.dataset.id = contact.id;
    option.dataset.email = contact.email;
    const first = document.createElement("span");
    first.textContent = contact.name || contact.email;
    option.append(first);
    if (contact.name) {
      const second = document.createElement("span");
      second.className = "quiet";
      second.textContent = contact.email;
      option.append(second);
    }
    return option;
  }

  key(event) {
    if (event.key === "Escape") this.close();
    if (event.key === "Enter") {
      event.preventDefault();
      const marked = this.list.querySelector('[aria-selected="true"]');
      const option = marked ?? this.list.querySelector("[role=option]");
      if (option && !this.list.hidden) this.take(option);
    }
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || this.list.hidden) return;
    event.preventDefault();
    const options = [...this.list.querySelectorAll("[role=option]")];
    if (options.length === 0) return;
    const at = options.findIndex((option) => option.getAttribute("aria-selected") === "true");
    const next = options[(at + step + options.length) % options.length];
    for (const option of options) option.setAttribute("aria-selected", String(option === next));
    this.input.setAttribute("aria-activedescendant", next.id);
    next.scrollIntoView({ block: "nearest" });
  }

  take(option) {
    this.input.value = option.dataset.email;
    this.clear.hidden = false;
    this.close();
    this.chosen(option.dataset.id);
  }

  close() {
    this.turn += 1;
    this.list.hidden = true;
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
  }
}

const started = new WeakSet();
function start() {
  for (const root of document.querySelectorAll("[data-preview]")) {
    if (started.has(root)) continue;
    started.add(root);
    new Preview(root);
  }
}

document.addEventListener("htmx:afterSettle", start);
start();
