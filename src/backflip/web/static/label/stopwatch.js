// How long a task has been looked at: time in which the page is hidden does not count.
export class Stopwatch {
  constructor() {
    this.restart();
    document.addEventListener("visibilitychange", () => { this.passed = this.seconds; this.since = document.hidden ? null : performance.now(); });
  }

  restart() {
    this.passed = 0;
    this.since = document.hidden ? null : performance.now();
  }

  get seconds() {
    return this.passed + (this.since === null ? 0 : (performance.now() - this.since) / 1000);
  }
}
