// A task on the page: the dialogue above, the replies beside each other.
import { el, rendered } from "../dom.js";
import { describe } from "../pictures.js";
import { t, word } from "../texts.js";

const ROLES = { user: word("Person"), assistant: word("Assistant"), system: word("System"), tool: word("Tool"), situation: word("Situation") };
const NOTES = {
  plain: word("Shown as plain text: too long or too deep to be laid out."),
  bidi: word("Holds characters that turn the direction of writing; they are shown as signs."),
  invisible: word("Holds characters without width; they are shown as signs."),
  control: word("Holds control characters; they are shown as signs."),
  surrogate: word("Holds broken characters; they are shown as signs."),
};

/** Name of a place: A, B, ...; "Reply" when there is only one. */
function placeName(place, number) {
  return number === 1 ? t("Reply") : String.fromCharCode(65 + place);
}

function notes(view) {
  const lines = view.notes.map((note) => t(NOTES[note]));
  if (view.truncated) lines.push(t("The model was cut off here."));
  return lines.length ? el("p", { class: "notes" }, lines.join(" ")) : null;
}

function clipText({ steps, environment, terminated }) {
  const words = terminated ? t("{steps} steps in {environment}, ended by itself.", { steps, environment })
    : t("{steps} steps in {environment}, cut off.", { steps, environment });
  return el("p", {}, words);
}

/** The turns of the dialogue; a long one is scrolled to its end, which is what was asked last. */
export class Asked {
  constructor(prompt) {
    this.element = el("div", { class: "turns", role: "region", tabindex: "0", "aria-label": t("What was asked") },
      ...prompt.map((turn) => el("section", { class: `turn ${turn.role}` },
        el("span", { class: "role" }, t(ROLES[turn.role])), notes(turn), rendered(turn.html))));
    describe(this.element);
  }

  scrollToEnd() {
    this.element.scrollTop = this.element.scrollHeight;
  }
}

const FOCUSING = 100; // milliseconds

/** The replies, each in a card of its own; `cards[place].body` holds its text. */
export class Replies {
  constructor(samples) {
    this.samples = samples;
    this.source = false;
    this.cards = samples.map((sample, place) => this.#card(place));
    samples.forEach((sample, place) => this.show(place));
    this.element = el("div", { class: `replies${samples.length > 1 ? " several" : ""}` },
      ...this.cards.map((card) => card.element));
    if (samples.length === 2) this.#scrollTogether();
  }

  /** Show the texts as they are, or laid out. */
  showSource(source) {
    this.source = source;
    this.cards.forEach((card, place) => this.show(place));
  }

  /** Show a text as usual, after something else was in its place. */
  show(place) {
    const sample = this.samples[place];
    const text = sample.clip ? clipText(sample.clip) : rendered(this.source ? sample.source : sample.html);
    this.cards[place].body.replaceChildren(...[notes(sample), text].filter(Boolean));
  }

  /** Set the cards of some places off from the others. */
  highlight(places) {
    this.cards.forEach((card, place) => card.element.classList.toggle("chosen", places.includes(place)));
  }

  #card(place) {
    const name = placeName(place, this.samples.length);
    const body = el("div", { class: "body", tabindex: "0", role: "group", "aria-label": t("Text of {name}", { name }) });
    const tools = el("div", { class: "ranks" });
    const element = el("article", { class: `reply ${name.length === 1 ? name.toLowerCase() : ""}`, "aria-label": name },
      el("header", {}, el("h2", {}, name), tools), body);
    return { element, body, tools, name };
  }

  #scrollTogether() {
    const [first, second] = this.cards.map((card) => card.body);
    // Where an element was scrolled to from here: that is no wish of the reader, however often it is
    // told. To follow it would hold up the other, which may be on its way further down.
    const ours = new Map();
    // What has just got the focus is in sight: the other text follows it, and does not move it away.
    let focused = { body: null, at: -FOCUSING };
    for (const [from, to] of [[first, second], [second, first]]) {
      from.addEventListener("focusin", () => { focused = { body: from, at: performance.now() }; });
      from.addEventListener("scroll", () => {
        if (focused.body === to && performance.now() - focused.at < FOCUSING) return;
        if (Math.abs(from.scrollTop - (ours.get(from) ?? -100)) < 2) return;
        ours.delete(from);
        const room = from.scrollHeight - from.clientHeight;
        if (room <= 0) return;
        to.scrollTop = (from.scrollTop / room) * (to.scrollHeight - to.clientHeight);
        ours.set(to, to.scrollTop);
      });
    }
  }
}
