// What has been entered so far is kept by the server, which also keeps the task for who is at work on it.
import { Refusal, send } from "../api.js";

const DELAY = 700; // milliseconds without another change
const PATIENCE = 30_000;

export class Drafts {
  /** `read` gives {task, draft}; `kept` and `failed` are told what came of it, `failed` with the error. */
  constructor({ read, kept, failed }) {
    this.read = read;
    this.kept = kept;
    this.failed = failed;
    this.timer = null;
    this.last = Promise.resolve();
    addEventListener("pagehide", () => this.flush({ keepalive: true }));
  }

  /** Something was changed. */
  note() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.save(), DELAY);
  }

  /** Forget what is not saved yet. */
  drop() {
    clearTimeout(this.timer);
    this.timer = null;
  }

  /** Save what is not saved yet, now. */
  async flush(options) {
    if (this.timer !== null) await this.save(options);
  }

  /** Save now. */
  async save(options) {
    this.drop();
    const { task, draft } = this.read();
    if (await this.#put(task, draft, options)) this.kept(task);
  }

  /** Keep the task, by its draft as it is. */
  async renew() {
    const { task, draft } = this.read();
    await this.#put(task, draft);
  }

  /** One after the other, so that no older draft comes after a newer one. */
  #put(task, draft, options) {
    this.last = this.last.then(async () => {
      try {
        await send("PUT", `/api/tasks/${task.id}/draft`, { draft }, { patience: PATIENCE, ...options });
        task.until = Date.now() + 1000 * task.seconds_left;
        return true;
      } catch (error) {
        if (!(error instanceof Refusal)) throw error;
        this.failed(task, error);
        return false;
      }
    });
    return this.last;
  }
}
