// Marks in the texts. While marking is on, a reply is shown as it is written: a sentence is pressed,
// by mouse or key, or any stretch is selected with the mouse.
import { el } from "../dom.js";
import { t } from "../texts.js";
import { Choices } from "./choices.js";

const MAX_MARKS = 200;
const MAX_QUOTE = 60;

export class Marking {
  /** `tags` are what a mark may mean; `changed` is called when there are other marks. */
  constructor(task, replies, tags, changed) {
    this.replies = replies;
    this.changed = changed;
    this.tags = tags;
    this.marks = []; // {place, start, end, tag}; the server counts characters, not UTF-16 units
    this.on = false;
    this.texts = task.samples.map((sample) => ({ characters: Array.from(sample.text), sentences: sample.sentences, signs: new Map(sample.signs) }));
    this.meaning = new Choices({ "aria-label": t("What a mark means") },
      tags.map((tag, i) => ({ value: tag, key: i < 9 ? String(i + 1) : null, class: this.#color(tag), label: t(tag) })), () => {});
    this.meaning.choose(tags[0], false);
    this.palette = el("div", { class: "palette", role: "group", "aria-label": t("Marks"), hidden: true },
      el("p", {}, t("Press a sentence, or select words with the mouse. The mark means:")), this.meaning.element,
      el("button", { type: "button", "aria-keyshortcuts": "x", onclick: () => this.toggle() }, t("Done"), el("kbd", { "aria-hidden": "true" }, "x")));
    this.button = el("button", { type: "button", "aria-pressed": "false", "aria-keyshortcuts": "x", onclick: () => this.toggle() },
      t("Mark in the text"), el("kbd", { "aria-hidden": "true" }, "x"));
    this.list = el("ul", { class: "rows marks" });
    this.element = el("fieldset", { class: "group" }, el("legend", {}, t("Marks")), this.list, el("div", {}, this.button));
    this.groups = replies.cards.map((card, place) => el("div", { class: "marking", role: "group", "aria-label": t("Sentences of {name}", { name: card.name }),
      onmousedown: () => document.addEventListener("mouseup", () => this.#select(place), { once: true }) }));
  }

  /** Show the texts to be marked, and as usual again. */
  toggle() {
    this.on = !this.on;
    this.button.setAttribute("aria-pressed", String(this.on));
    this.palette.hidden = !this.on;
    this.replies.cards.forEach((card, place) => {
      if (!this.on) { this.replies.show(place); return; }
      this.#draw(place);
      card.body.replaceChildren(this.groups[place]);
    });
    const first = this.on ? this.groups[0].querySelector(".sentence") : null;
    (first ?? document.getElementById("task")).focus({ preventScroll: !this.on });
  }

  restore(marks) {
    this.marks = marks;
    this.#list();
  }

  /** Lay out a text: sentences to press, and in them what is marked. */
  #draw(place) {
    const { characters, sentences, signs } = this.texts[place];
    const marks = this.marks.filter((mark) => mark.place === place);
    const cuts = [0, characters.length, ...sentences.flat(), ...marks.flatMap((mark) => [mark.start, mark.end]), ...[...signs.keys()].flatMap((at) => [at, at + 1])];
    const sorted = [...new Set(cuts)].sort((x, y) => x - y);
    const spans = sentences.map(([start, end], i) => this.#sentence(place, i, start, end));
    const drawn = [];
    let i = 0;
    sorted.slice(0, -1).forEach((start, at) => {
      const end = sorted[at + 1];
      while (i < sentences.length && sentences[i][1] <= start) i += 1;
      const piece = this.#piece(characters, signs, marks, start, end);
      if (i === sentences.length || start < sentences[i][0]) drawn.push(piece);
      else { if (start === sentences[i][0]) drawn.push(spans[i]); spans[i].append(piece); }
    });
    this.groups[place].replaceChildren(...drawn);
  }

  #piece(characters, signs, marks, start, end) {
    const over = marks.filter((mark) => mark.start <= start && end <= mark.end);
    const ends = over.filter((mark) => mark.end === end).map((mark) => t(mark.tag));
    const sign = signs.get(start);
    return el(over.length ? "mark" : "span", {
      "data-start": start, "data-end": end, class: over.length ? this.#color(over.at(-1).tag) : "", "data-tag": ends.length ? ends.join(", ") : null,
    }, sign ? el("span", { class: "sign" }, `[${sign}]`) : characters.slice(start, end).join(""));
  }

  #sentence(place, i, start, end) {
    const pressed = this.marks.some((mark) => mark.place === place && mark.start === start && mark.end === end);
    return el("span", { class: "sentence", role: "button", tabindex: i ? "-1" : "0", "aria-pressed": String(pressed),
      onclick: () => { if (!this.selected) this.#press(place, i, start, end, this.meaning.value); },
      onfocus: (event) => this.#enter(place, event.currentTarget),
      onkeydown: (event) => this.#key(event, place, i, start, end) });
  }

  /** Of the sentences of a text one is in the tab order: that which had the focus last. */
  #enter(place, sentence) {
    this.groups[place].querySelector(".sentence[tabindex='0']").tabIndex = -1;
    sentence.tabIndex = 0;
  }

  #key(event, place, i, start, end) {
    const all = this.groups[place].querySelectorAll(".sentence");
    const to = { ArrowRight: i + 1, ArrowDown: i + 1, ArrowLeft: i - 1, ArrowUp: i - 1, Home: 0, End: all.length - 1 }[event.key];
    const numbered = this.meaning.options.find((option) => option.key === event.key);
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (to !== undefined) all[Math.min(Math.max(to, 0), all.length - 1)].focus();
    else if (numbered) { this.meaning.choose(numbered.value, false); this.#press(place, i, start, end, numbered.value); }
    else if (event.key === "Enter" || event.key === " ") this.#press(place, i, start, end, this.meaning.value);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  #press(place, i, start, end, tag) {
    this.#put({ place, start, end, tag });
    this.groups[place].querySelectorAll(".sentence")[i].focus();
  }

  /** Mark what is selected with the mouse in the text of a place. */
  #select(place) {
    const selection = document.getSelection();
    this.selected = this.on && !selection.isCollapsed;
    if (!this.selected) return;
    setTimeout(() => { this.selected = false; }); // the click that ends the selection presses no sentence
    const stretch = this.#stretch(place, selection.getRangeAt(0));
    selection.removeAllRanges();
    if (stretch) this.#put({ place, ...stretch, tag: this.meaning.value });
  }

  /** Characters of a text that a range covers, without the space around them; null for none. */
  #stretch(place, range) {
    const pieces = [...this.groups[place].querySelectorAll("[data-start]")].filter((piece) => range.intersectsNode(piece));
    if (!pieces.length) return null;
    const { characters } = this.texts[place];
    let start = within(pieces[0], range.startContainer, range.startOffset, Number(pieces[0].dataset.start));
    let end = within(pieces.at(-1), range.endContainer, range.endOffset, Number(pieces.at(-1).dataset.end));
    while (start < end && !characters[start].trim()) start += 1;
    while (start < end && !characters[end - 1].trim()) end -= 1;
    return start < end ? { start, end } : null;
  }

  /** Add a mark; the same again takes it away, and another meaning takes its place. */
  #put(mark) {
    const at = this.marks.findIndex(({ place, start, end }) => place === mark.place && start === mark.start && end === mark.end);
    const old = at < 0 ? null : this.marks.splice(at, 1)[0];
    if (old?.tag !== mark.tag && this.marks.length < MAX_MARKS) this.marks.push(mark);
    this.#draw(mark.place);
    this.#list();
    this.changed();
  }

  #list() {
    this.list.replaceChildren(...this.marks.map((mark) => {
      const text = this.texts[mark.place].characters.slice(mark.start, mark.end);
      const quote = text.slice(0, MAX_QUOTE).join("") + (text.length > MAX_QUOTE ? "…" : "");
      return el("li", {}, el("span", {}, this.replies.cards[mark.place].name), el("span", { class: `tag ${this.#color(mark.tag)}` }, t(mark.tag)),
        el("q", { class: "quote" }, quote),
        el("button", { type: "button", class: "link", "aria-label": t("Remove the mark “{quote}”", { quote }), onclick: () => this.#remove(mark) }, t("Remove")));
    }));
  }

  #remove(mark) {
    this.#put(mark);
    (this.list.querySelector("button") ?? this.button).focus();
  }

  #color(tag) {
    return `tag-${this.tags.indexOf(tag) % 4}`;
  }
}

/** The character at a point of a piece; `otherwise` when the point lies outside of it. */
function within(piece, node, offset, otherwise) {
  if (node.nodeType !== Node.TEXT_NODE || !piece.contains(node)) return otherwise;
  if (piece.querySelector(".sign")) return otherwise;
  return Number(piece.dataset.start) + Array.from(node.data.slice(0, offset)).length;
}
