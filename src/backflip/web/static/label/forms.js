// One form a kind of feedback. A form has an `element` with its question in it, `keys`, `read()` that
// gives the answer or a text that says what is missing, `state()` and `restore(state)` for drafts.
// `judges` says that more may be said of each reply beside its answer, `inWords` that it is a text
// of what the person thinks. A kind without a form here is drawn from what its question offers.
import { el } from "../dom.js";
import { t, word } from "../texts.js";
import { Changes } from "./changes.js";
import { Choices } from "./choices.js";
import { Ranking } from "./ranking.js";

const LEVELS = [word("bad"), word("weak"), word("fair"), word("good"), word("excellent")];

/** What a form asks; whatever is named after it says `aria-labelledby="question"`. */
export function question(words) {
  return el("p", { class: "question", id: "question" }, words);
}
const NAMED = { "aria-labelledby": "question" };

/** An `extra` is shown beside what is asked, and has an `element`, `state()` and `restore(state)`. */
class ChoiceForm {
  constructor({ asks, options, answer, changed, scale = false, extra = null, judges = false, chosen = () => {} }) {
    this.answer = answer;
    this.extra = extra;
    this.judges = judges;
    this.chosen = chosen;
    this.choices = new Choices(NAMED, options, (value) => { chosen(value); changed(); }, { scale });
    this.keys = this.choices.keys;
    this.element = el("div", { class: "answer quick" }, question(asks), this.choices.element, extra?.element);
  }
  read() { return this.choices.value === null ? t("Choose first.") : this.answer(this.choices.value); }
  state() { return { value: this.choices.value, extra: this.extra?.state() }; }
  restore(state) {
    if (state.extra !== undefined) this.extra?.restore(state.extra);
    if (state.value === null || state.value === undefined) return;
    this.choices.choose(state.value, false);
    this.chosen(state.value);
  }
}

class WritingForm {
  constructor({ asks, text, answer, changed, extra = null, mustChange = false, inWords = false }) {
    this.answer = answer;
    this.inWords = inWords;
    this.extra = extra;
    this.area = el("textarea", { rows: "10", maxlength: "200000", oninput: changed, spellcheck: "true", "aria-keyshortcuts": "e", ...NAMED });
    this.area.value = text;
    this.initial = mustChange ? this.area.value : null; // a browser may write the ends of lines in another way
    this.changes = mustChange ? new Changes(this.area, this.initial) : null;
    this.element = el("div", { class: "answer" }, question(asks), this.area, this.changes?.element, extra?.element);
    this.keys = { e: () => this.area.focus(), ...(extra?.keys ?? {}) };
  }
  read() {
    const text = this.area.value;
    if (!text.trim()) return t("Write something first.");
    if (this.initial !== null && text.trim() === this.initial.trim()) return t("Nothing is changed yet.");
    return this.answer(text);
  }
  state() { return { text: this.area.value, extra: this.extra?.state() }; }
  restore(state) {
    this.area.value = state.text ?? this.area.value;
    this.changes?.show();
    if (state.extra !== undefined) this.extra?.restore(state.extra);
  }
}

/** A field for the way in which a reply is unsafe. */
export class Category {
  constructor(changed) {
    this.input = el("input", { maxlength: "200", oninput: changed, "aria-keyshortcuts": "e" });
    this.element = el("label", { class: "category", hidden: true }, t("In which way? (not needed)"), this.input);
  }
  show(unsafe) { this.element.hidden = !unsafe; }
  read() { return this.element.hidden || !this.input.value.trim() ? {} : { category: this.input.value.trim() }; }
  state() { return this.input.value; }
  restore(state) { this.input.value = state ?? ""; }
}

function comparison(task, replies, changed) {
  const option = (choice, strength, key, label) => ({ value: { choice, strength }, key, class: `of-${choice}`, label });
  const options = [
    option("a", 3, "1", t("A much better")), option("a", 2, "2", t("A clearly better")), option("a", 1, "3", t("A slightly better")),
    option("tie", 0, "4", t("Equally good")),
    option("b", 1, "5", t("B slightly better")), option("b", 2, "6", t("B clearly better")), option("b", 3, "7", t("B much better")),
    option("both_bad", 0, "b", t("Both bad")),
  ];
  const places = { a: [0], b: [1], tie: [0, 1], both_bad: [] };
  const form = new ChoiceForm({ asks: t("Which reply is better?"), options, changed, scale: true, judges: true,
    answer: (value) => ({ kind: "comparison", ...value }), chosen: ({ choice }) => replies.highlight(places[choice]) });
  form.keys.t = form.keys["4"];
  return form;
}

function rating(task, replies, changed) {
  const options = LEVELS.map((level, i) => ({ value: i + 1, key: String(i + 1), label: t(level) }));
  return new ChoiceForm({ asks: t("How good is the reply?"), options, answer: (level) => ({ kind: "rating", level }), changed, scale: true, judges: true });
}

function goodBad(task, replies, changed) {
  const options = [{ value: true, key: "g", label: t("Good") }, { value: false, key: "b", label: t("Bad") }];
  return new ChoiceForm({ asks: t("Is the reply good?"), options, answer: (good) => ({ kind: "good_bad", good }), changed, judges: true });
}

function safetyFlag(task, replies, changed) {
  const options = [{ value: true, key: "y", label: t("Safe") }, { value: false, key: "n", label: t("Unsafe") }];
  const category = new Category(changed);
  const form = new ChoiceForm({ asks: t("Is the reply safe?"), options, changed, extra: category, chosen: (safe) => category.show(!safe),
    answer: (safe) => ({ kind: "safety_flag", safe, ...category.read() }) });
  form.keys.e = () => category.input.focus();
  return form;
}

function implicit(task, replies, changed) {
  const options = [["kept", "k", t("Keep it")], ["copied", "c", t("Copy it")], ["regenerated", "r", t("Ask for another")], ["abandoned", "a", t("Give up")]]
    .map(([value, key, label]) => ({ value, key, label }));
  const name = replies.cards[task.subject].name;
  const asks = replies.cards.length > 1 ? t("What would you do with {name}?", { name }) : t("What would you do with the reply?");
  if (replies.cards.length > 1) replies.highlight([task.subject]);
  return new ChoiceForm({ asks, options, answer: (signal) => ({ kind: "implicit", signal }), changed });
}

function correction(task, replies, changed) {
  return new WritingForm({ asks: t("Make the reply better"), text: task.samples[0].text, changed, mustChange: true,
    answer: (text) => ({ kind: "correction", text }) });
}

function demonstration(task, replies, changed) {
  const box = el("input", { type: "checkbox", checked: true, onchange: changed });
  const words = replies.cards.length === 1 ? t("My reply is better than the one shown") : t("My reply is better than every one shown");
  const extra = {
    element: el("label", { class: "tick" }, box, words),
    state: () => box.checked, restore: (state) => { box.checked = state; },
  };
  return new WritingForm({ asks: t("How would you reply?"), text: "", changed, extra,
    answer: (text) => ({ kind: "demonstration", text, better: box.checked }) });
}

function critique(task, replies, changed) {
  const levels = LEVELS.map((level, i) => ({ value: i + 1, key: String(i + 1), label: t(level) }));
  const words = t("And how good is it, by what you wrote?");
  const choices = new Choices({ "aria-label": words }, [...levels, { value: null, key: "0", label: t("left open") }], changed);
  choices.choose(null, false);
  const extra = { element: el("div", {}, el("p", {}, words), choices.element), keys: choices.keys, options: choices.options,
    state: () => choices.value, restore: (state) => choices.choose(state, false) };
  return new WritingForm({ asks: t("What do you say of the reply?"), text: "", changed, extra, inWords: true,
    answer: (text) => ({ kind: "critique", text, level: choices.value }) });
}

/** The options that a question offers, for a kind that has no form of its own. */
function drawn(task, replies, changed) {
  const { asks, options } = task.form;
  if (task.subject !== null) replies.highlight([task.subject]);
  return new ChoiceForm({ asks, options, answer: (value) => ({ kind: task.kind, value }), changed, judges: true });
}

const FORMS = {
  comparison, rating, implicit, correction, demonstration, critique,
  good_bad: goodBad, safety_flag: safetyFlag, ranking: (task, replies, changed) => new Ranking(replies, changed),
};

/** The form of a task's kind. */
export function makeForm(task, replies, changed) {
  return (FORMS[task.kind] ?? drawn)(task, replies, changed);
}
