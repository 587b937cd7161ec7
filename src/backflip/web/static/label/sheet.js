// A task on the page: the dialogue above, the replies beside each other.
import { el, rendered } from "../dom.js";
import { t } from "../texts.js";

const ROLES = { user: "Person", assistant: "Assistant", system: "System", situation: "Situation" };
const NOTES = {
  plain: "Shown as plain text: too long or too deep to be laid out.",
  bidi: "Holds characters that turn the direction of writing; they are shown as signs.",
  invisible: "Holds characters without width; they are shown as signs.",
  control: "Holds control characters; they are shown as signs.",
  surrogate: "Holds broken characters; they are shown as signs.",
};

/** Name of a place: A, B, ...; "Reply" when there is only one. */
export function placeName(place, number) {
  return number === 1 ? t("Reply") : String.fromCharCode(65 + place);
}

function notes(view) {
  const lines = view.notes.map((note) => t(NOTES[note]));
  if (view.truncated) lines.push(t("The model was cut off here."));
  return lines.length ? el("p", { class: "notes" }, lines.join(" ")) : null;
}

/** The turns of the dialogue. */
export function dialogue(prompt) {
  const turns = prompt.map((turn) =>
    el("section", { class: `turn ${turn.role}` },
      el("span", { class: "role" }, t(ROLES[turn.role])), notes(turn), rendered(turn.html)));
  return el("div", { class: "turns", role: "region", "aria-label": t("What was asked") }, ...turns);
}

/** The replies, each in a card of its own; `cards[place].body` holds its text. */
export class Replies {
  constructor(samples) {
    this.samples = samples;
    this.source = false;
    this.cards = samples.map((sample, place) => this.#card(sample, place));
    this.element = el("div", { class: `replies${samples.length > 1 ? " several" : ""}` },
      ...this.cards.map((card) => card.element));
    if (samples.length === 2) this.#scrollTogether();
  }

  /** Show the texts as they are, or laid out. */
  toggleSource() {
    this.source = !this.source;
    this.cards.forEach((card, place) => this.show(place));
  }

  /** Show a text as usual, after something else was in its place. */
  show(place) {
    const { card, sample } = { card: this.cards[place], sample: this.samples[place] };
    card.sourceButton?.setAttribute("aria-pressed", String(this.source));
    card.body.replaceChildren(...[notes(sample), rendered(this.source ? sample.source : sample.html)].filter(Boolean));
  }

  #card(sample, place) {
    const name = placeName(place, this.samples.length);
    const body = el("div", { class: "body", tabindex: "0", role: "group", "aria-label": t("Text of {name}", { name }) });
    const sourceButton = el("button", { type: "button", class: "spacer", "aria-pressed": "false", onclick: () => this.toggleSource() }, t("Source"));
    const tools = el("div", { class: "ranks" });
    const header = el("header", {}, el("h2", {}, name), tools, sourceButton);
    const element = el("article", { class: `reply ${name.length === 1 ? name.toLowerCase() : ""}`, "aria-label": name }, header, body);
    body.append(...[notes(sample), rendered(sample.html)].filter(Boolean));
    return { element, body, tools, sourceButton, name };
  }

  #scrollTogether() {
    let leader = null;
    const [first, second] = this.cards.map((card) => card.body);
    for (const [from, to] of [[first, second], [second, first]]) {
      from.addEventListener("scroll", () => {
        if (leader === to) { leader = null; return; }
        leader = from;
        const room = from.scrollHeight - from.clientHeight;
        to.scrollTop = room > 0 ? (from.scrollTop / room) * (to.scrollHeight - to.clientHeight) : 0;
      });
    }
  }
}
