// What may be said beside an answer: reasons, marks in the text, critiques, corrections, safety.
import { el } from "../dom.js";
import { t } from "../texts.js";
import { Changes } from "./changes.js";
import { Category } from "./forms.js";
import { Marking } from "./marking.js";

export class Extras {
  constructor(task, form, replies, rules, changed) {
    const written = task.samples[0].text !== undefined;
    this.changed = () => { this.#count(); changed(); };
    this.tags = this.#chips(rules.reasons);
    this.marking = rules.marks.length && written ? new Marking(task, replies, rules.marks, this.changed) : null;
    this.why = rules.critique && !form.inWords ? el("textarea", { rows: "2", maxlength: "200000", oninput: this.changed }) : null;
    this.parts = form.judges && written ? replies.cards.map((card, place) => this.#part(card.name, task.samples[place], rules)) : [];
    this.number = el("span", { class: "tag", hidden: true });
    const groups = [
      rules.reasons.length ? el("fieldset", { class: "group" }, el("legend", {}, t("Reasons")), this.tags.element) : null,
      this.marking?.element,
      this.why ? el("label", { class: "group" }, el("span", { class: "name" }, t("Why? In your own words")), this.why) : null,
      this.parts.length ? el("div", { class: "per-reply" }, ...this.parts.map((part) => part.element)) : null,
    ];
    this.element = el("details", { class: "more", hidden: !groups.some(Boolean) },
      el("summary", { "aria-keyshortcuts": "m" }, t("Say more (not needed)"), " ", el("kbd", { "aria-hidden": "true" }, "m"), " ", this.number), ...groups);
    this.palette = this.marking?.palette ?? null;
    this.keys = { m: () => this.toggle(), ...(this.marking ? { x: () => this.marking.toggle() } : {}) };
  }

  toggle() {
    if (this.element.hidden) return;
    this.element.open = !this.element.open;
    (this.element.open ? this.element.querySelector("button, textarea") : document.getElementById("task")).focus();
  }

  read() {
    const said = (field) => this.parts.map((part, place) => ({ place, text: part[field]?.value ?? "" })).filter((each) => each.text.trim());
    const why = this.why?.value.trim();
    return {
      tags: this.tags.chosen(),
      marks: this.marking?.marks ?? [],
      ...(why ? { reason: why } : {}),
      critiques: said("critique"),
      corrections: said("correction").filter(({ place, text }) => text.trim() !== this.parts[place].initial.trim()),
      flags: this.parts.map((part, place) => ({ part, place })).filter(({ part }) => part.unsafe?.checked)
        .map(({ part, place }) => ({ place, safe: false, ...part.category.read() })),
    };
  }

  state() {
    return { open: this.element.open, tags: this.tags.chosen(), marks: this.marking?.marks, why: this.why?.value,
      parts: this.parts.map((part) => ({ critique: part.critique?.value, correction: part.edits?.open ? part.correction.value : null,
        unsafe: part.unsafe?.checked, category: part.category?.state() })) };
  }

  restore(state) {
    this.element.open = state.open ?? false;
    this.tags.choose(state.tags ?? []);
    this.marking?.restore(state.marks ?? []);
    if (this.why) this.why.value = state.why ?? "";
    this.parts.forEach((part, place) => part.restore(state.parts?.[place] ?? {}));
    this.#count();
  }

  /** How much is said, for who has closed this part. */
  #count() {
    const { tags, marks, reason, critiques, corrections, flags } = this.read();
    const number = tags.length + marks.length + critiques.length + corrections.length + flags.length + (reason ? 1 : 0);
    this.number.textContent = String(number);
    this.number.hidden = !number;
  }

  #chips(reasons) {
    const buttons = reasons.map((reason) => el("button", { type: "button", "aria-pressed": "false", onclick: (event) => {
      const button = event.currentTarget;
      button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
      this.changed();
    } }, t(reason)));
    return {
      element: el("div", { class: "choices" }, ...buttons),
      chosen: () => reasons.filter((_, i) => buttons[i].getAttribute("aria-pressed") === "true"),
      choose: (tags) => buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(tags.includes(reasons[i])))),
    };
  }

  #part(name, sample, rules) {
    const part = {};
    if (rules.critique) part.critique = el("textarea", { rows: "2", oninput: this.changed, maxlength: "200000" });
    if (rules.safety) {
      part.category = new Category(this.changed);
      part.unsafe = el("input", { type: "checkbox", onchange: () => { part.category.show(part.unsafe.checked); this.changed(); } });
    }
    if (rules.correction) {
      part.correction = el("textarea", { rows: "8", oninput: this.changed, maxlength: "200000", "aria-label": t("Your better version of {name}", { name }) });
      part.correction.value = sample.text;
      part.initial = part.correction.value; // a browser may write the ends of lines in another way
      part.changes = new Changes(part.correction, part.initial);
      part.edits = el("details", {}, el("summary", {}, t("Write a better {name}", { name })), part.correction, part.changes.element);
    }
    part.element = el("fieldset", {}, el("legend", {}, name),
      part.critique ? el("label", {}, t("What do you say of it?"), part.critique) : null,
      part.unsafe ? el("label", { class: "tick" }, part.unsafe, t("Unsafe")) : null,
      part.category?.element,
      part.edits);
    part.restore = (kept) => {
      if (part.critique) part.critique.value = kept.critique ?? "";
      if (part.edits && typeof kept.correction === "string") {
        part.edits.open = true;
        part.correction.value = kept.correction;
        part.changes.show();
      }
      if (!part.unsafe) return;
      part.unsafe.checked = Boolean(kept.unsafe);
      part.category.restore(kept.category);
      part.category.show(part.unsafe.checked);
    };
    return part;
  }
}
