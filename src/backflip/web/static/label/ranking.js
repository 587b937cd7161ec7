// Ranking: press a card's letter, then a rank. Cards stay where they are, and nothing is ranked
// until somebody ranks it, so that the order on the screen is never taken for an answer.
import { el } from "../dom.js";
import { t } from "../texts.js";

export class Ranking {
  constructor(replies, changed) {
    this.judges = true;
    this.replies = replies;
    this.changed = changed;
    this.number = replies.cards.length;
    this.ranks = Array(this.number).fill(null);
    this.active = null;
    this.badges = replies.cards.map((card, place) => this.#tools(card, place));
    this.slots = el("ol", { class: "slots", "aria-label": t("Ranks, best first") });
    this.hint = el("p", { class: "quiet", role: "status" });
    this.line = el("select", { "aria-keyshortcuts": "l", onchange: () => this.changed() }, el("option", { value: "" }, t("no line")),
      ...Array.from({ length: this.number + 1 }, (_, rank) => el("option", { value: rank }, rank === 0 ? t("none is acceptable") : t("up to rank {rank}", { rank }))));
    this.element = el("div", { class: "answer quick ranking" },
      el("p", { class: "question", id: "question" }, t("Put the replies in order, the best first.")), this.hint,
      el("div", {}, this.slots, el("label", { class: "line" }, t("Acceptable are"), " ", this.line, el("kbd", { "aria-hidden": "true" }, "l"))));
    this.keys = { 0: () => this.#rankActive(null), l: () => this.line.focus() };
    for (let place = 0; place < this.number; place += 1) {
      this.keys[String.fromCharCode(97 + place)] = () => this.#activate(place);
      this.keys[String(place + 1)] = () => this.#rankActive(place + 1);
    }
    this.#draw();
  }

  read() {
    const left = this.replies.cards.filter((card, place) => this.ranks[place] === null).map((card) => card.name);
    if (left.length) return t("Not ranked yet: {left}", { left: left.join(", ") });
    const sorted = [...new Set(this.ranks)].sort((x, y) => x - y);
    const ranks = this.ranks.map((rank) => sorted.indexOf(rank) + 1);
    const line = this.line.value;
    const acceptable = line === "" ? null : this.ranks.filter((rank) => rank <= Number(line)).length;
    return { kind: "ranking", ranks, num_acceptable: acceptable };
  }
  /** Its keys, for the dialogue that shows them. */
  listed() {
    return [[["a", "1"], t("give A the first rank")], [["a", "0"], t("take its rank away")], [["l"], t("draw the line of what is acceptable")]];
  }
  state() { return { ranks: this.ranks, line: this.line.value }; }
  restore(state) {
    this.ranks = state.ranks ?? this.ranks;
    this.line.value = state.line ?? "";
    this.#draw();
  }

  #tools(card, place) {
    const badge = el("span", { class: "badge", role: "status" });
    const name = card.name;
    card.tools.append(badge,
      el("button", { type: "button", "aria-label": t("{name}: a better rank", { name }), onclick: () => this.#shift(place, -1) }, "▲"),
      el("button", { type: "button", "aria-label": t("{name}: a worse rank", { name }), onclick: () => this.#shift(place, 1) }, "▼"));
    return badge;
  }

  #activate(place) {
    this.active = this.active === place ? null : place;
    this.#draw();
    this.replies.cards[place].element.scrollIntoView({ block: "nearest" });
  }

  #rankActive(rank) {
    if (this.active === null) { this.hint.textContent = t("First press the letter of a reply."); return; }
    this.#set(this.active, rank);
  }

  #shift(place, step) {
    const before = this.ranks[place];
    const last = Math.min(Math.max(0, ...this.ranks.filter((rank) => rank !== null)) + 1, this.number);
    this.#set(place, before === null ? last : Math.min(Math.max(before + step, 1), this.number));
  }

  #set(place, rank) {
    this.ranks[place] = rank;
    this.active = null;
    this.#draw();
    this.changed();
  }

  #draw() {
    this.replies.cards.forEach((card, place) => {
      const rank = this.ranks[place];
      const words = rank === null ? t("not ranked") : t("rank {rank}", { rank });
      if (this.badges[place].textContent !== words) this.badges[place].textContent = words;
      card.element.classList.toggle("active", place === this.active);
      card.element.classList.toggle("ranked", rank !== null);
    });
    this.hint.textContent = this.active === null ? t("Press a letter, then a rank, as A 1. The same rank twice is a tie.")
      : t("{name}: which rank?", { name: this.replies.cards[this.active].name });
    const focused = document.activeElement?.dataset.chip;
    this.slots.replaceChildren(...[null, ...Array.from({ length: this.number }, (_, i) => i + 1)].map((rank) => this.#slot(rank)));
    if (focused !== undefined) this.slots.querySelector(`[data-chip="${focused}"]`).focus();
  }

  #slot(rank) {
    const here = this.replies.cards.map((card, place) => place).filter((place) => this.ranks[place] === rank);
    const slot = el("li", {
      ondragover: (event) => { event.preventDefault(); slot.classList.add("over"); },
      ondragleave: () => slot.classList.remove("over"),
      ondrop: (event) => {
        event.preventDefault();
        const place = Number.parseInt(event.dataTransfer.getData("text/plain"), 10);
        if (place >= 0 && place < this.number) this.#set(place, rank);
        document.getElementById("task").focus({ preventScroll: true });
      },
    }, el("button", { type: "button", "data-chip": `rank-${rank}`, "aria-label": rank === null ? t("no rank") : t("rank {rank}", { rank }), onclick: () => this.#rankActive(rank) },
      rank === null ? t("not ranked") : String(rank)),
    ...here.map((place) => this.#chip(place)));
    return slot;
  }

  #chip(place) {
    return el("button", { type: "button", class: "chip", draggable: "true", "data-chip": place, "aria-pressed": String(place === this.active),
      ondragstart: (event) => event.dataTransfer.setData("text/plain", String(place)), onclick: () => this.#activate(place) },
    this.replies.cards[place].name);
  }
}
