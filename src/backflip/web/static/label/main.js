// The labelling page: one task after another, the next one fetched while this one is answered.
// "Saved" is said only when the server has the answer; until then nothing on the page is lost.
import { Refusal, send } from "../api.js";
import { el, isWriting } from "../dom.js";
import { t } from "../texts.js";
import { Extras } from "./extras.js";
import { makeForm } from "./forms.js";
import { dialogue, Replies } from "./sheet.js";

const DRAFT_DELAY = 700;
const get = (id) => document.getElementById(id);
const project = document.querySelector("main").dataset.project;
const rules = JSON.parse(get("rules").textContent);

class Page {
  constructor() {
    this.waiting = null; // the next task, fetched ahead
    this.busy = false;
    this.draftTimer = null;
    this.seconds = 0;
    this.since = null;
    document.addEventListener("keydown", (event) => this.press(event));
    document.addEventListener("visibilitychange", () => (document.hidden ? this.pauseClock() : this.runClock()));
    get("undo").addEventListener("click", () => this.undo());
    get("show-keys").addEventListener("click", () => get("keys").showModal());
    get("show-guideline")?.addEventListener("click", () => get("guideline").showModal());
  }

  async start() {
    await this.attempt(async () => {
      const told = await send("POST", `/api/projects/${project}/next`, {});
      this.take(told);
      await this.fetchAhead();
    });
  }

  /** Show what the server sent: a task, or that there is none. */
  take(told) {
    if (told.given !== undefined) get("given").textContent = t("{number} answered by you", { number: told.given });
    this.show(told.task);
  }

  show(task) {
    this.task = task;
    this.seconds = 0;
    this.since = null;
    clearTimeout(this.draftTimer);
    this.draftTimer = null;
    if (!task) { this.showNothing(); return; }
    this.replies = new Replies(task.samples);
    const changed = () => this.noteDraft();
    this.form = makeForm(task, this.replies, changed);
    this.extras = new Extras(task, this.replies, rules, changed);
    if (task.draft) { this.form.restore(task.draft.form ?? {}); this.extras.restore(task.draft.extras ?? {}); }
    this.reason = el("input", { "aria-label": t("Why skip (not needed)"), placeholder: t("why (not needed)"), maxlength: "2000" });
    this.saveButton = el("button", { type: "button", class: "main", "aria-keyshortcuts": "Enter", onclick: () => this.save() }, t("Save and go on"), el("kbd", { "aria-hidden": "true" }, "Enter"));
    get("task").replaceChildren(dialogue(task.prompt), this.replies.element,
      task.axis ? el("p", {}, el("strong", {}, t("Judge only this: {axis}", { axis: task.axis }))) : "",
      this.form.element, this.extras.element,
      el("div", { class: "end" }, this.saveButton, el("div", { class: "skip" }, this.reason,
        el("button", { type: "button", "aria-keyshortcuts": "s", onclick: () => this.skip() }, t("Cannot judge, skip"), el("kbd", { "aria-hidden": "true" }, "s")))));
    this.listKeys();
    window.scrollTo(0, 0);
    get("task").focus({ preventScroll: true });
    this.runClock();
  }

  showNothing() {
    this.form = this.extras = null;
    get("task").replaceChildren(el("div", { class: "empty" }, el("p", {}, t("Nothing more to ask you now. Thank you!")),
      el("button", { type: "button", onclick: () => this.start() }, t("Look again"))));
  }

  /** Fetch the next task while this one is on the screen. */
  async fetchAhead() {
    if (!this.task || this.waiting) return;
    const told = await send("POST", `/api/projects/${project}/next`, { besides: [this.task.id] }).catch(() => null);
    this.waiting = told?.task ?? null;
  }

  async save() {
    if (!this.form || this.busy) return;
    const read = this.form.read();
    if (typeof read === "string") { this.say(read); return; }
    const answer = { ...read, ...this.extras.read() };
    const seconds = this.elapsed();
    await this.finish(`/api/tasks/${this.task.id}/answer`, { answer, seconds });
  }

  async skip() {
    if (!this.form || this.busy) return;
    await this.finish(`/api/tasks/${this.task.id}/skip`, { reason: this.reason.value });
  }

  /** End the task on the screen, show the one that waits and fetch another. */
  async finish(path, body) {
    clearTimeout(this.draftTimer);
    this.draftTimer = null;
    await this.attempt(async () => {
      const besides = [this.task.id, ...(this.waiting ? [this.waiting.id] : [])];
      const told = await send("POST", path, { ...body, wants_next: true, besides });
      this.say(t("Saved"));
      const next = this.waiting ?? told.task;
      this.waiting = this.waiting ? told.task : null;
      this.take({ task: next, given: told.given });
      if (!this.waiting) await this.fetchAhead();
    });
  }

  async undo() {
    if (this.busy) return;
    await this.attempt(async () => {
      const told = await send("POST", `/api/projects/${project}/undo`, {});
      if (!told.task) { this.say(t("There is nothing to take back.")); return; }
      if (this.task) this.waiting = this.task;
      this.take(told);
      this.say(t("Taken back: answer it anew."));
    });
  }

  /** Do something with the server; what goes wrong is told, and the page stays as it is. */
  async attempt(work) {
    this.busy = true;
    if (this.saveButton) this.saveButton.disabled = true;
    get("fault").hidden = true;
    try {
      await work();
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      await this.tell(error);
    } finally {
      this.busy = false;
      if (this.saveButton) this.saveButton.disabled = false;
    }
  }

  async tell(refusal) {
    const fault = get("fault");
    const words = { 0: t("Not saved: the server cannot be reached. Try again; nothing on this page is lost."), 401: t("Not saved: you are signed out.") };
    const parts = [el("p", { class: "fault" }, words[refusal.status] ?? [refusal.message, refusal.hint].filter(Boolean).join(" "))];
    if (refusal.status === 401) parts.push(el("p", {}, el("a", { href: `/login?next=${location.pathname}` }, t("Sign in"))));
    if (refusal.status === 404 || refusal.status === 409) {
      parts.push(el("button", { type: "button", onclick: () => { this.waiting = null; this.start(); } }, t("Go on with another one")));
    }
    fault.replaceChildren(...parts);
    fault.hidden = false;
    this.say(t("Not saved"));
  }

  noteDraft() {
    if (this.draftTimer) clearTimeout(this.draftTimer);
    this.draftTimer = setTimeout(() => this.saveDraft(), DRAFT_DELAY);
  }

  async saveDraft() {
    const task = this.task;
    this.draftTimer = null;
    const draft = { form: this.form.state(), extras: this.extras.state() };
    try {
      await send("PUT", `/api/tasks/${task.id}/draft`, { draft });
      if (this.task === task) this.say(t("Draft saved"));
    } catch {
      if (this.task === task) this.say(t("Draft not saved"));
    }
  }

  press(event) {
    if (event.ctrlKey && event.key === "Enter") { event.preventDefault(); this.save(); return; }
    if (event.ctrlKey || event.altKey || event.metaKey || document.querySelector("dialog[open]")) return;
    if (isWriting(event.target)) {
      if (event.key === "Escape") get("task").focus();
      return;
    }
    const own = { ...this.extras?.keys, ...this.form?.keys };
    const common = { "?": () => get("keys").showModal(), u: () => this.undo(), s: () => this.skip(), v: () => this.replies?.toggleSource(),
      i: () => get("guideline")?.showModal() };
    const onButton = event.target instanceof HTMLElement && event.target.closest("button, a, summary");
    if (event.key === "Enter" && (!onButton || onButton.role === "radio")) { event.preventDefault(); this.save(); return; }
    const action = own[event.key.toLowerCase()] ?? common[event.key.toLowerCase()];
    if (!action) return;
    event.preventDefault();
    action();
  }

  listKeys() {
    const rows = Object.entries({ Enter: t("Save and go on"), "Ctrl Enter": t("Save while writing"), Escape: t("Leave the text"), s: t("Cannot judge, skip"), u: t("Undo the last answer"),
      v: t("Show the source"), m: t("Say more (not needed)"), h: t("Mark in the text"), i: t("Instructions") });
    const options = this.form.choices?.options ?? [];
    const own = this.task.kind === "ranking"
      ? [[t("A, then 1"), t("give A the first rank")], ["L", t("draw the line of what is acceptable")]]
      : options.map((option) => [option.key, option.label]);
    if (this.form.area) own.push(["e", t("write")]);
    get("keys-list").replaceChildren(...[...own, ...rows].flatMap(([key, words]) => [el("dt", {}, el("kbd", {}, key)), el("dd", {}, words)]));
  }

  say(words) { get("status").textContent = words; }
  runClock() { if (!document.hidden && this.since === null) this.since = performance.now(); }
  pauseClock() { this.seconds = this.elapsed(); this.since = null; }
  elapsed() { return this.seconds + (this.since === null ? 0 : (performance.now() - this.since) / 1000); }
}

new Page().start();
