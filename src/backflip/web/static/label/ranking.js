// Ranking: press a card's letter, then a rank. Cards stay where they are, and nothing is ranked
// until somebody ranks it, so that the order on the screen is never taken for an answer.
import { el } from "../dom.js";
import { t } from "../texts.js";

export class Ranking {
  constructor(replies, changed) {
    this.replies = replies;
    this.changed = changed;
    this.number = replies.cards.length;
    this.ranks = Array(this.number).fill(null);
    this.active = null;
    this.badges = replies.cards.map((card, place) => this.#tools(card, place));
    this.slots = el("ol", { class: "slots", "aria-label": t("Ranks, best first") });
    this.line = el("select", { onchange: () => this.changed() }, el("option", { value: "" }, t("no line")),
      ...Array.from({ length: this.number + 1 }, (_, rank) => el("option", { value: rank }, rank === 0 ? t("none is acceptable") : t("up to rank {rank}", { rank }))));
    this.element = el("div", { class: "answer" },
      el("p", { class: "question" }, t("Put the replies in order, the best first. The same rank is a tie.")),
      this.slots, el("label", {}, t("Acceptable are"), " ", this.line));
    this.keys = {};
    for (let place = 0; place < this.number; place += 1) {
      this.keys[String.fromCharCode(97 + place)] = () => this.#activate(place);
      this.keys[String(place + 1)] = () => this.#rankActive(place + 1);
    }
    this.keys.l = () => this.line.focus();
    this.#draw();
  }

  read() {
    const left = this.ranks.filter((rank) => rank === null).length;
    if (left) return t("{left} are not ranked yet.", { left });
    const sorted = [...new Set(this.ranks)].sort((x, y) => x - y);
    const ranks = this.ranks.map((rank) => sorted.indexOf(rank) + 1);
    const line = this.line.value;
    const acceptable = line === "" ? null : this.ranks.filter((rank) => rank <= Number(line)).length;
    return { kind: "ranking", ranks, num_acceptable: acceptable };
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
    this.active = place;
    this.#draw();
    this.replies.cards[place].element.scrollIntoView({ block: "nearest" });
  }

  #rankActive(rank) {
    if (this.active === null) return;
    this.#set(this.active, rank);
    this.active = null;
    this.#draw();
  }

  #shift(place, step) {
    const before = this.ranks[place];
    const last = Math.min(Math.max(0, ...this.ranks.filter((rank) => rank !== null)) + 1, this.number);
    this.#set(place, before === null ? last : Math.min(Math.max(before + step, 1), this.number));
  }

  #set(place, rank) {
    this.ranks[place] = rank;
    this.#draw();
    this.changed();
  }

  #draw() {
    this.replies.cards.forEach((card, place) => {
      const rank = this.ranks[place];
      this.badges[place].textContent = rank === null ? t("not ranked") : t("rank {rank}", { rank });
      card.element.classList.toggle("active", place === this.active);
    });
    this.slots.replaceChildren(...[null, ...Array.from({ length: this.number }, (_, i) => i + 1)].map((rank) => this.#slot(rank)));
  }

  #slot(rank) {
    const here = this.replies.cards.map((card, place) => place).filter((place) => this.ranks[place] === rank);
    const chips = here.map((place) => el("span", { class: "chip", draggable: "true",
      ondragstart: (event) => event.dataTransfer.setData("text/plain", String(place)) }, this.replies.cards[place].name));
    const slot = el("li", {
      ondragover: (event) => { event.preventDefault(); slot.classList.add("over"); },
      ondragleave: () => slot.classList.remove("over"),
      ondrop: (event) => {
        event.preventDefault();
        const place = Number(event.dataTransfer.getData("text/plain"));
        if (Number.isInteger(place) && place < this.number) this.#set(place, rank);
      },
    }, el("span", { class: "quiet" }, rank === null ? t("not ranked") : String(rank)), " ", ...chips);
    return slot;
  }
}
