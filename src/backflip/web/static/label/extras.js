// What may be said beside an answer: reasons, marks in the text, critiques, corrections, safety.
import { el } from "../dom.js";
import { t } from "../texts.js";

export class Extras {
  constructor(task, replies, rules, changed) {
    this.changed = changed;
    this.replies = replies;
    this.task = task;
    this.marks = [];
    this.marking = false;
    const written = task.samples[0].text !== undefined;
    const several = ["comparison", "ranking", "rating", "good_bad"].includes(task.kind);
    this.tags = this.#chips(rules.reasons);
    this.tag = el("select", {}, ...rules.marks.map((mark) => el("option", { value: mark }, t(mark))));
    this.parts = several && written ? replies.cards.map((card, place) => this.#part(card.name, task.samples[place], rules)) : [];
    this.markButton = el("button", { type: "button", "aria-pressed": "false", "aria-keyshortcuts": "h", onclick: () => this.toggleMarking() },
      t("Mark in the text"), el("kbd", { "aria-hidden": "true" }, "h"));
    this.element = el("details", { class: "more" }, el("summary", {}, t("Say more (not needed)"), " ", el("kbd", { "aria-hidden": "true" }, "m")),
      rules.reasons.length ? el("fieldset", { class: "group" }, el("legend", {}, t("Reasons")), this.tags.element) : null,
      rules.marks.length && written ? el("fieldset", { class: "group" }, el("legend", {}, t("Marks")), el("label", {}, t("What a mark means"), this.tag), el("div", {}, this.markButton)) : null,
      el("div", { class: "per-reply" }, ...this.parts.map((part) => part.element)));
    this.keys = { m: () => this.toggle(), h: () => this.toggleMarking() };
  }

  toggle() {
    this.element.open = !this.element.open;
    if (this.element.open) this.element.querySelector("button, textarea")?.focus();
  }

  /** Turn the texts into sentences to press, and back. */
  toggleMarking() {
    if (this.task.samples[0].text === undefined) return;
    this.marking = !this.marking;
    this.markButton.setAttribute("aria-pressed", String(this.marking));
    this.replies.cards.forEach((card, place) => (this.marking ? this.#sentences(place) : this.replies.show(place)));
    if (this.marking) this.replies.cards[0].body.querySelector("button")?.focus();
  }

  read() {
    const said = (field) => this.parts.map((part, place) => ({ place, text: part[field]?.value ?? "" })).filter((each) => each.text.trim());
    return {
      tags: this.tags.chosen(),
      marks: this.marks,
      critiques: said("critique"),
      corrections: said("correction").filter(({ place, text }) => text.trim() !== this.task.samples[place].text.trim()),
      flags: this.parts.map((part, place) => ({ place, safe: false, on: part.unsafe?.checked })).filter((flag) => flag.on).map(({ place, safe }) => ({ place, safe })),
    };
  }

  state() {
    return { open: this.element.open, tags: this.tags.chosen(), marks: this.marks,
      parts: this.parts.map((part) => ({ critique: part.critique?.value, correction: part.edits?.open ? part.correction.value : null, unsafe: part.unsafe?.checked })) };
  }

  restore(state) {
    this.element.open = state.open ?? false;
    this.tags.choose(state.tags ?? []);
    this.marks = state.marks ?? [];
    (state.parts ?? []).forEach((kept, place) => {
      const part = this.parts[place];
      if (!part) return;
      if (part.critique) part.critique.value = kept.critique ?? "";
      if (part.correction && kept.correction !== null && kept.correction !== undefined) { part.edits.open = true; part.correction.value = kept.correction; }
      if (part.unsafe) part.unsafe.checked = Boolean(kept.unsafe);
    });
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
    const legend = el("legend", {}, name);
    if (rules.critique) part.critique = el("textarea", { rows: "3", oninput: this.changed, maxlength: "200000" });
    if (rules.safety) part.unsafe = el("input", { type: "checkbox", onchange: this.changed });
    if (rules.correction) {
      part.correction = el("textarea", { rows: "8", oninput: this.changed, maxlength: "200000", "aria-label": t("Your better version of {name}", { name }) });
      part.correction.value = sample.text;
      part.edits = el("details", {}, el("summary", {}, t("Write a better {name}", { name })), part.correction);
    }
    part.element = el("fieldset", {}, legend,
      part.critique ? el("label", {}, t("What do you say of it?"), part.critique) : null,
      part.unsafe ? el("label", {}, part.unsafe, " ", t("Unsafe")) : null,
      part.edits ?? null);
    return part;
  }

  #sentences(place) {
    const sample = this.task.samples[place];
    const characters = Array.from(sample.text); // the server counts characters, not UTF-16 units
    const buttons = sample.sentences.map(([start, end]) => {
      const at = this.marks.findIndex((mark) => mark.place === place && mark.start === start);
      return el("button", { type: "button", "aria-pressed": String(at >= 0), title: at >= 0 ? t(this.marks[at].tag) : null,
        onclick: (event) => this.#mark(event.currentTarget, place, start, end) }, characters.slice(start, end).join(""));
    });
    this.replies.cards[place].body.replaceChildren(el("div", { class: "marking", role: "group", "aria-label": t("Sentences to mark") }, ...buttons));
  }

  #mark(button, place, start, end) {
    const at = this.marks.findIndex((mark) => mark.place === place && mark.start === start);
    if (at >= 0) this.marks.splice(at, 1);
    else this.marks.push({ place, start, end, tag: this.tag.value });
    button.setAttribute("aria-pressed", String(at < 0));
    button.title = at < 0 ? t(this.tag.value) : "";
    this.changed();
  }
}
