// One form a kind of feedback. A form has an `element`, `keys`, `read()` that gives the answer or a
// text that says what is missing, `state()` and `restore(state)` for drafts.
import { el } from "../dom.js";
import { t } from "../texts.js";
import { Choices } from "./choices.js";
import { Ranking } from "./ranking.js";

class ChoiceForm {
  constructor(question, options, answer, changed, style) {
    this.answer = answer;
    this.choices = new Choices(question, options, changed, style);
    this.keys = this.choices.keys;
    this.element = el("div", { class: "answer" }, el("p", { class: "question" }, question), this.choices.element);
  }
  read() { return this.choices.value === null ? t("Choose first.") : this.answer(this.choices.value); }
  state() { return { value: this.choices.value }; }
  restore(state) { if (state.value !== null && state.value !== undefined) this.choices.choose(state.value, false); }
}

class WritingForm {
  constructor({ question, text, answer, changed, extra = null, mustChange = false }) {
    this.initial = mustChange ? text : null;
    this.answer = answer;
    this.extra = extra;
    this.area = el("textarea", { rows: "10", maxlength: "200000", oninput: changed, spellcheck: "true" });
    this.area.value = text;
    this.element = el("div", { class: "answer" }, el("label", { class: "question" }, question, this.area), extra?.element);
    this.keys = { e: () => this.area.focus(), ...(extra?.keys ?? {}) };
  }
  read() {
    const text = this.area.value;
    if (!text.trim()) return t("Write something first.");
    if (this.initial !== null && text.trim() === this.initial.trim()) return t("Nothing is changed yet.");
    return this.answer(text, this.extra);
  }
  state() { return { text: this.area.value, extra: this.extra?.state() }; }
  restore(state) { this.area.value = state.text ?? ""; if (state.extra !== undefined) this.extra?.restore(state.extra); }
}

function comparison(task, replies, changed) {
  const strength = [[3, "much better"], [2, "clearly better"], [1, "slightly better"]];
  const side = (choice, name, list, keys) => list.map(([value, words], i) => ({
    value: { choice, strength: value }, key: keys[i], class: `of-${choice}`, label: t(`${name} ${words}`) }));
  const options = [
    ...side("a", "A", strength, ["1", "2", "3"]),
    { value: { choice: "tie", strength: 0 }, key: "4", class: "of-ab", label: t("Equally good") },
    ...side("b", "B", strength.toReversed(), ["5", "6", "7"]),
    { value: { choice: "both_bad", strength: 0 }, key: "b", class: "of-ab", label: t("Both bad") },
  ];
  const form = new ChoiceForm(t("Which reply is better?"), options, (value) => ({ kind: "comparison", ...value }), changed, { scale: true });
  form.keys.t = form.keys["4"];
  return form;
}

function rating(task, replies, changed) {
  const words = ["bad", "weak", "fair", "good", "excellent"];
  const options = words.map((word, i) => ({ value: i + 1, key: String(i + 1), label: `${i + 1} ${t(word)}` }));
  return new ChoiceForm(t("How good is the reply?"), options, (level) => ({ kind: "rating", level }), changed);
}

function goodBad(task, replies, changed) {
  const options = [{ value: true, key: "g", label: t("Good") }, { value: false, key: "b", label: t("Bad") }];
  return new ChoiceForm(t("Is the reply good?"), options, (good) => ({ kind: "good_bad", good }), changed);
}

function safetyFlag(task, replies, changed) {
  const options = [{ value: true, key: "y", label: t("Safe") }, { value: false, key: "n", label: t("Unsafe") }];
  return new ChoiceForm(t("Is the reply safe?"), options, (safe) => ({ kind: "safety_flag", safe }), changed);
}

function implicit(task, replies, changed) {
  const options = [["kept", "k", "Keep it"], ["copied", "c", "Copy it"], ["regenerated", "r", "Ask for another"], ["abandoned", "a", "Give up"]]
    .map(([value, key, label]) => ({ value, key, label: t(label) }));
  const name = replies.cards[task.subject].name;
  const question = replies.cards.length > 1 ? t("What would you do with {name}?", { name }) : t("What would you do with the reply?");
  return new ChoiceForm(question, options, (signal) => ({ kind: "implicit", signal }), changed);
}

function correction(task, replies, changed) {
  return new WritingForm({ question: t("Make the reply better"), text: task.samples[0].text, changed, mustChange: true,
    answer: (text) => ({ kind: "correction", text }) });
}

function demonstration(task, replies, changed) {
  const box = el("input", { type: "checkbox", checked: true, onchange: changed });
  const extra = {
    element: el("label", {}, box, " ", t("My reply is better than every one shown")),
    state: () => box.checked, restore: (state) => { box.checked = state; },
  };
  return new WritingForm({ question: t("How would you reply?"), text: "", changed, extra,
    answer: (text) => ({ kind: "demonstration", text, better: box.checked }) });
}

function critique(task, replies, changed) {
  const levels = [1, 2, 3, 4, 5].map((level) => ({ value: level, key: String(level), label: String(level) }));
  const choices = new Choices(t("How good is it, by what you wrote? 1 bad to 5 excellent"), [{ value: null, key: "0", label: t("open") }, ...levels], changed);
  choices.choose(null, false);
  const extra = { element: el("div", {}, el("p", {}, choices.element.getAttribute("aria-label")), choices.element), keys: choices.keys,
    state: () => choices.value, restore: (state) => choices.choose(state, false) };
  return new WritingForm({ question: t("What do you say of the reply?"), text: "", changed, extra,
    answer: (text) => ({ kind: "critique", text, level: choices.value }) });
}

const FORMS = {
  comparison, rating, implicit, correction, demonstration, critique,
  good_bad: goodBad, safety_flag: safetyFlag, ranking: (task, replies, changed) => new Ranking(replies, changed),
};

/** The form of a task's kind. */
export function makeForm(task, replies, changed) {
  return FORMS[task.kind](task, replies, changed);
}
