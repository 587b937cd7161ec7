// A chat in which each turn has two live replies; the person says which is better, or goes on with one.
import { Refusal, send } from "../api.js";
import { el, isWriting, rendered } from "../dom.js";
import { t, word } from "../texts.js";
import { tell } from "./faults.js";
import { makeForm } from "./forms.js";
import { asList } from "./keys.js";
import { Replies } from "./sheet.js";

const get = (id) => document.getElementById(id);
const { path, last } = document.querySelector("main").dataset;
const STATES = { waiting: word("waits for the worker"), running: word("writes …"), failed: word("failed"), cancelled: word("stopped") };
const UNSENT = `backflip-unsent ${path}`;
const KEEP = ["j", "k"]; // keys beside each other, the left one for the left reply
const ENDED = ["done", "failed", "cancelled"];

class Chat {
  constructor() {
    this.chat = null;
    this.replies = null; // the two that are open
    this.form = null;
    this.events = null;
    this.busy = false;
    get("say").addEventListener("submit", (event) => { event.preventDefault(); this.say(); });
    get("fresh").addEventListener("click", () => this.begin());
    get("again").addEventListener("click", () => this.again(false));
    get("undo").addEventListener("click", () => this.undo());
    get("end").addEventListener("click", () => this.end());
    get("show-keys").addEventListener("click", () => this.showKeys());
    document.addEventListener("keydown", (event) => this.press(event));
  }

  async open() {
    get("say").elements.text.value = sessionStorage.getItem(UNSENT) ?? "";
    get("say").elements.text.addEventListener("input", (event) => sessionStorage.setItem(UNSENT, event.target.value));
    if (last) await this.change("GET", `/${last}`, undefined, () => this.open());
    else this.show(null);
    get("say").elements.text.focus();
  }

  /** Ask the server for a change, and show the chat as it is then; says whether it worked. `again` does all of it once more. */
  async change(method, address, body, again) {
    if (this.busy) return false;
    this.busy = true;
    get("fault").hidden = true;
    try {
      this.show(await send(method, path + address, body));
      return true;
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      get("status").textContent = "";
      await this.refused(error, again);
      return false;
    } finally {
      this.busy = false;
    }
  }

  /** What the server refuses is told in its words: the chat may be elsewhere by now, and is shown as it is. */
  async refused(refusal, again) {
    if ([404, 409].includes(refusal.status)) {
      const found = this.chat && (await send("GET", `${path}/${this.chat.id}`).catch(() => null));
      if (found) this.show(found);
      get("fault").replaceChildren(el("p", {}, [refusal.message, refusal.hint].filter(Boolean).join(" ")));
      get("fault").hidden = false;
    } else {
      tell(get("fault"), { failed: t("Not saved."), refusal, again, another: () => location.reload() });
    }
    get("fault").focus({ preventScroll: true });
  }

  /** How far this page knows the chat to be: the server takes nothing that was meant for another state. */
  get soFar() { return { turns: this.turns.length, attempt: this.turns.at(-1)?.attempt ?? 0 }; }
  get turns() { return this.chat?.turns ?? []; }
  get openTurn() { const turn = this.turns.at(-1); return turn && turn.chosen === null && this.chat.state === "open" ? turn : null; }

  show(chat) {
    this.chat = chat;
    const turn = this.openTurn;
    get("turns").replaceChildren(...this.turns.flatMap((each, number) => this.lines(each, number)));
    get("now").hidden = !turn;
    get("say").hidden = Boolean(turn) || chat?.state === "ended";
    get("undo").disabled = !this.turns.length || this.turns.at(-1).chosen === null || chat.state !== "open";
    get("end").hidden = !this.turns.length;
    this.events?.close();
    if (turn) this.judge(turn);
    else this.replies = this.form = null;
    if (chat?.state === "ended") get("status").textContent = t("This chat has ended.");
  }

  /** What a turn leaves in the chat: what was said, and the reply that it went on with. */
  lines(turn, number) {
    const said = el("section", { class: "turn user" }, el("span", { class: "role" }, t("You")), rendered(turn.said.html));
    if (turn.chosen === null) return [said];
    const reply = turn.replies[turn.chosen];
    const copy = el("button", { type: "button", class: "link", onclick: () => this.copy(number, turn.chosen, reply) }, t("Copy"));
    return [said, el("section", { class: "turn assistant" }, el("span", { class: "role" }, t("Assistant"), " ", copy), rendered(reply.html))];
  }

  /** Show the two replies of a turn as they are written, and ask which is better once they are. */
  judge(turn) {
    const number = this.turns.length - 1;
    this.replies = new Replies(turn.replies);
    this.replies.cards.forEach((card, place) => {
      card.state = el("span", { class: "quiet" });
      card.copy = el("button", { type: "button", onclick: () => this.copy(number, place, this.replies.samples[place]) }, t("Copy"));
      card.keep = el("button", { type: "button", "aria-keyshortcuts": KEEP[place], onclick: () => this.choose({ go_on: place }) },
        t("Just go on with {name}", { name: card.name }), " ", el("kbd", { "aria-hidden": "true" }, KEEP[place]));
      card.tools.append(card.state, card.copy, card.keep);
    });
    get("pair").replaceChildren(this.replies.element);
    this.form = makeForm({ kind: "comparison" }, this.replies, () => this.answer());
    get("judge").replaceChildren(this.form.element);
    this.progress(turn.replies);
    if (turn.replies.every((each) => ENDED.includes(each.state))) return;
    this.events = new EventSource(`${path}/${this.chat.id}/events`);
    this.events.addEventListener("message", (event) => this.progress(JSON.parse(event.data)));
    this.events.addEventListener("error", () => {
      if (this.events.readyState === EventSource.CLOSED) get("status").textContent = t("No longer live: load the page again.");
    });
  }

  progress(replies) {
    this.replies.samples = replies;
    this.replies.cards.forEach((card, place) => {
      const reply = replies[place];
      this.replies.show(place);
      if (reply.error) card.body.append(el("p", { class: "fault" }, reply.error));
      card.state.textContent = reply.done ? "" : t(STATES[reply.state]);
      card.copy.hidden = card.keep.hidden = !reply.done;
    });
    const ended = replies.every((each) => ENDED.includes(each.state));
    get("judge").hidden = !replies.every((each) => each.done);
    if (!ended) return;
    this.events?.close();
    get("asleep")?.remove();
    get("status").textContent = get("judge").hidden ? t("A reply failed: go on with the other, or ask for two others.") : t("Both replies are there.");
  }

  /** What was chosen is sent at once: there is nothing to add to it here. */
  answer() {
    const { choice, strength } = this.form.choices.value;
    if (choice === "both_bad") this.again(true);
    else this.choose({ choice, strength });
  }

  async choose(chosen) {
    const body = { ...this.soFar, ...chosen };
    if (await this.change("POST", `/${this.chat.id}/choose`, body, () => this.choose(chosen))) this.after(t("Saved"));
  }

  async again(bothBad) {
    const body = { ...this.soFar, both_bad: bothBad };
    if (!(await this.change("POST", `/${this.chat.id}/again`, body, () => this.again(bothBad)))) return;
    get("status").textContent = t("Two others are being written.");
    get("now").focus({ preventScroll: true });
  }

  async say() {
    const area = get("say").elements.text;
    if (!area.value.trim()) return;
    const again = () => this.say();
    if (!this.chat && !(await this.change("POST", "", {}, again))) return;
    if (!(await this.change("POST", `/${this.chat.id}/say`, { ...this.soFar, text: area.value }, again))) return;
    area.value = "";
    sessionStorage.removeItem(UNSENT);
    get("status").textContent = t("Two replies are being written.");
    get("now").focus({ preventScroll: true });
    get("now").scrollIntoView({ block: "nearest" });
  }

  async undo() {
    if (get("undo").disabled) return;
    if (await this.change("POST", `/${this.chat.id}/undo`, this.soFar, () => this.undo())) get("status").textContent = t("Taken back: choose anew.");
  }

  async end() {
    await this.change("POST", `/${this.chat.id}/end`, {}, () => this.end());
  }

  async begin() {
    if (this.chat?.state === "open" && this.turns.length) await this.end();
    if (await this.change("POST", "", {}, () => this.begin())) this.after("");
  }

  after(words) {
    get("status").textContent = words;
    get("say").elements.text.focus();
  }

  async copy(turn, place, reply) {
    try {
      await navigator.clipboard.writeText(reply.text);
      get("status").textContent = t("Copied.");
    } catch {
      get("status").textContent = t("The browser did not let it be copied.");
      return;
    }
    await send("POST", `${path}/${this.chat.id}/copied`, { turn, place }).catch(() => null);
  }

  showKeys() {
    const better = this.form?.choices.options.map((option) => [[option.key], option.label]) ?? [];
    const goOn = ["A", "B"].map((name, place) => [[KEEP[place]], t("Just go on with {name}", { name })]);
    get("keys-list").replaceChildren(...asList([...better, ...goOn, [["r"], t("Ask for two others")], [["u"], t("Undo")], [[t("Ctrl"), "Enter"], t("Send")], [["Escape"], t("Leave the text")]]));
    get("keys").showModal();
  }

  press(event) {
    const { key, target } = event;
    if (document.querySelector("dialog[open]")) return;
    if ((event.ctrlKey || event.metaKey) && key === "Enter" && !get("say").hidden) { event.preventDefault(); this.say(); return; }
    if (key === "Escape") document.activeElement.blur();
    if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing || event.repeat || isWriting(target)) return;
    const bothThere = this.form && !get("judge").hidden;
    const keys = { u: () => this.undo(), "?": () => this.showKeys() };
    if (this.replies) {
      keys.r = () => this.again(false);
      this.replies.cards.forEach((card, place) => { if (!card.keep.hidden) keys[KEEP[place]] = () => card.keep.click(); });
      if (bothThere) Object.assign(keys, this.form.keys);
    }
    const action = keys[key.length === 1 ? key.toLowerCase() : key];
    if (!action) return;
    event.preventDefault();
    action();
  }
}

if (get("say")) new Chat().open();
