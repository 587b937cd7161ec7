// The labelling page: one task after another, the next one fetched while this one is answered.
// "Saved" is said only when the server has the answer; until then nothing on the page is lost.
import { Refusal, send } from "../api.js";
import { el, isWriting } from "../dom.js";
import { t } from "../texts.js";
import { Drafts } from "./drafts.js";
import { Extras } from "./extras.js";
import { isGone, tell } from "./faults.js";
import { makeForm } from "./forms.js";
import { listKeys } from "./keys.js";
import { Asked, Replies } from "./sheet.js";
import { Stopwatch } from "./stopwatch.js";

const PATIENCE = 30_000; // milliseconds
const MAX_ENTERED = 50; // tasks
const get = (id) => document.getElementById(id);
const { project, guideline } = document.querySelector("main").dataset;
const rules = JSON.parse(get("rules").textContent);

class Page {
  constructor() {
    this.task = null;
    this.waiting = null; // the next task, fetched ahead
    this.busy = false;
    this.entered = new Map(); // what was entered for each task that was left, should it come back
    this.watch = new Stopwatch();
    this.drafts = new Drafts({
      read: () => ({ task: this.task, draft: this.state() }),
      kept: (task) => { if (task === this.task) get("draft").textContent = t("Draft saved"); },
      failed: (task, refusal) => this.noDraft(task, refusal),
    });
    document.addEventListener("keydown", (event) => this.press(event));
    document.addEventListener("visibilitychange", () => { if (!document.hidden) this.renew(0); });
    get("task").addEventListener("click", (event) => this.afterClick(event));
    for (const dialog of document.querySelectorAll("dialog")) {
      dialog.addEventListener("close", () => {
        if (document.activeElement === document.body || dialog.contains(document.activeElement)) this.focus();
      });
    }
    const clicks = { save: () => this.save(), skip: () => this.skip(), undo: () => this.undo(), source: () => this.toggleSource(), "show-keys": () => this.showKeys(), "show-guideline": () => get("guideline").showModal() };
    for (const [id, action] of Object.entries(clicks)) get(id)?.addEventListener("click", action);
  }

  async start() {
    this.leave();
    this.waiting = null;
    const told = await this.attempt(t("No question was fetched."), () => this.start(), () => this.ask(`/api/projects/${project}/next`, {}));
    if (told) this.take(told);
    await this.fetchAhead();
  }

  async ask(path, body) {
    const told = await send("POST", path, body, { patience: PATIENCE });
    if (told.given === undefined) throw new Refusal(0, "not from the server", null);
    if (told.task) told.task.until = Date.now() + 1000 * told.task.seconds_left;
    return told;
  }

  /** Show what the server sent: a task, or that there is none. */
  take({ task, given }) {
    get("given").textContent = t("{number} answered by you", { number: given });
    this.task = task;
    this.sent = null;
    this.drafts.drop();
    this.watch.restart();
    get("draft").textContent = "";
    for (const id of ["controls", "source"]) get(id).hidden = !task;
    if (task) this.show(task);
    else this.showNothing();
    scrollTo(0, 0);
    this.focus();
  }

  /** Where keys answer and scroll: neither in a text nor on a button. */
  focus() { get("task").focus({ preventScroll: true }); }

  /** A button that the mouse has pressed shall not take the Enter that is meant to save. */
  afterClick({ detail }) {
    if (detail > 0 && document.activeElement?.matches("button:not([role=radio]), summary")) this.focus();
  }

  show(task) {
    const changed = () => this.drafts.note();
    const asked = new Asked(task.prompt);
    this.replies = new Replies(task.samples);
    this.form = makeForm(task, this.replies, changed);
    this.extras = new Extras(task, this.form, this.replies, rules, changed);
    const kept = this.entered.get(task.id) ?? task.draft;
    if (kept) { this.form.restore(kept.form ?? {}); this.extras.restore(kept.extras ?? {}); }
    if (task.draft_lost) get("draft").textContent = t("Your draft cannot be read any more.");
    get("reason").value = "";
    get("source").setAttribute("aria-pressed", "false");
    get("task").className = `${task.kind} ${task.samples.length === 1 ? "single" : "many"}`;
    const texts = [task.guideline > Number(guideline) ? newGuideline() : null, this.extras.palette, asked.element, this.replies.element];
    const axis = task.axis ? el("p", {}, el("strong", {}, t("Judge only this: {axis}", { axis: task.axis }))) : null;
    get("task").replaceChildren(el("div", { class: "texts" }, ...texts), el("div", { class: "asks" }, axis, this.form.element, this.extras.element));
    asked.scrollToEnd();
    this.renew(500 * task.seconds_left);
  }

  showNothing() {
    this.form = this.extras = this.replies = null;
    get("task").className = "";
    get("task").replaceChildren(el("div", { class: "empty" }, el("p", { id: "question" }, t("Nothing more to ask you now. Thank you!")),
      el("button", { type: "button", onclick: () => this.start() }, t("Look again"))));
  }

  /** Fetch the next task while this one is on the screen. */
  async fetchAhead() {
    if (!this.task || this.waiting) return;
    const told = await this.ask(`/api/projects/${project}/next`, { besides: [this.task.id] }).catch(() => null);
    if (told?.task && told.task.id !== this.task?.id) this.waiting ??= told.task;
  }

  state() { return { form: this.form.state(), extras: this.extras.state() }; }

  /** Remember what is entered, when the task leaves the screen. */
  leave() {
    if (!this.task) return;
    this.entered.set(this.task.id, this.state());
    if (this.entered.size > MAX_ENTERED) this.entered.delete(this.entered.keys().next().value);
  }

  async save() {
    if (!this.task || this.busy) return;
    const read = this.form.read();
    if (typeof read === "string") { this.say(read); return; }
    const answer = { ...read, ...this.extras.read() };
    // Sent again after a failure, it must be the same, that it counts once: with the same seconds.
    const said = JSON.stringify(answer);
    if (this.sent?.said !== said) this.sent = { said, seconds: this.watch.seconds };
    await this.finish("answer", { answer, seconds: this.sent.seconds });
  }

  async skip() {
    if (!this.task || this.busy) return;
    await this.finish("skip", { reason: get("reason").value });
  }

  /** End the task on the screen, show the one that waits and fetch another. */
  async finish(how, body) {
    this.say(t("Saving…"));
    const besides = [this.task.id, ...(this.waiting ? [this.waiting.id] : [])];
    const told = await this.attempt(t("Not saved."), () => (how === "skip" ? this.skip() : this.save()), async () => {
      this.drafts.drop();
      await this.drafts.last;
      return this.ask(`/api/tasks/${this.task.id}/${how}`, { ...body, wants_next: true, besides });
    });
    if (!told) { this.drafts.note(); return; }
    this.leave();
    const next = this.waiting ?? told.task;
    this.waiting = told.task?.id === next?.id ? null : told.task;
    this.take({ task: next, given: told.given });
    this.say(how === "skip" ? t("Skipped") : t("Saved"));
    await this.fetchAhead();
  }

  async undo() {
    if (this.busy) return;
    this.say("");
    // It may have been done although no answer came: then the server knows which task is at hand.
    const told = await this.attempt(t("Nothing was taken back."), () => this.start(), async () => {
      await this.drafts.flush();
      return this.ask(`/api/projects/${project}/undo`, {});
    });
    if (!told) return;
    if (!told.task) { this.say(t("There is nothing to take back.")); return; }
    this.leave();
    if (this.task && this.task.id !== told.task.id) this.waiting = this.task;
    this.take(told);
    this.say(t("Taken back: change it, or answer anew."));
  }

  /** What `work` gets from the server; null when it failed, which is told, and the page stays as it is. */
  async attempt(failed, again, work) {
    const focused = document.activeElement;
    this.setBusy(true);
    get("fault").hidden = true;
    try {
      const told = await work();
      this.setBusy(false);
      return told;
    } catch (error) {
      this.setBusy(false);
      if (!(error instanceof Refusal)) throw error;
      this.say("");
      this.tell(failed, error, again);
      (isGone(error) ? get("fault") : focused).focus({ preventScroll: true });
      return null;
    }
  }

  setBusy(busy) {
    this.busy = busy;
    for (const id of ["task", "controls"]) get(id).inert = busy;
  }

  tell(failed, refusal, again) {
    tell(get("fault"), { failed, refusal, again, another: () => this.start() });
  }

  /** Ask for more time when less than `milliseconds` of it are left. */
  renew(milliseconds) {
    if (this.task && this.task.until - Date.now() < milliseconds) this.drafts.renew();
  }

  noDraft(task, refusal) {
    if (task !== this.task || this.busy || !get("fault").hidden) return;
    get("draft").textContent = t("Draft not saved");
    if (isGone(refusal) || refusal.status === 401) this.tell(t("Not saved."), refusal, () => { get("fault").hidden = true; this.drafts.save(); });
  }

  toggleSource() {
    if (!this.task) return;
    if (this.extras.marking?.on) this.extras.marking.toggle();
    this.replies.showSource(!this.replies.source);
    get("source").setAttribute("aria-pressed", String(this.replies.source));
  }

  showKeys() {
    get("keys-list").replaceChildren(...listKeys(this.task, this.form, this.extras));
    get("keys").showModal();
  }

  press(event) {
    const { key, target } = event;
    if ((event.ctrlKey || event.metaKey) && key === "Enter") { event.preventDefault(); this.save(); return; }
    if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing || document.querySelector("dialog[open]")) return;
    if (key === "Escape") { if (this.extras?.marking?.on) this.extras.marking.toggle(); else this.focus(); return; }
    if (isWriting(target)) {
      if (key === "Enter" && target.id === "reason") { event.preventDefault(); this.skip(); }
      return;
    }
    const onButton = target instanceof HTMLElement && target.closest("button, a, summary, [role=button]");
    const own = { ...this.extras?.keys, ...this.form?.keys };
    const common = { "?": () => this.showKeys(), u: () => this.undo(), s: () => this.skip(), w: () => get("reason").focus(), v: () => this.toggleSource(),
      i: () => get("guideline")?.showModal(), Enter: onButton && onButton.role !== "radio" ? null : () => this.save() };
    const name = key.length === 1 ? key.toLowerCase() : key;
    const digit = /^Digit(\d)$/.exec(event.code)?.[1]; // some keyboards need Shift for digits
    const action = own[name] ?? common[name] ?? own[digit];
    if (!action) return;
    event.preventDefault();
    if (!event.repeat && !this.busy) action();
  }

  say(words) { get("status").textContent = words; }
}

function newGuideline() {
  return el("p", { class: "done" }, t("There are new instructions."), " ", el("button", { type: "button", onclick: () => location.reload() }, t("Read them")));
}

/** Instructions that this browser has not shown in this version come first. */
function openGuideline() {
  const name = `guideline of ${project}`;
  if (guideline === "0" || localStorage.getItem(name) === guideline) return;
  localStorage.setItem(name, guideline);
  get("guideline").showModal();
}

new Page().start();
openGuideline();
