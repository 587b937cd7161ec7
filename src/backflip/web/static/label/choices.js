// A row of choices, one of which holds: by mouse, by its own key, or by arrows as a radio group.
import { el } from "../dom.js";

export class Choices {
  /** `options` are {value, label, key, class}; `changed` is called with each new value; `name` holds how the row is named. */
  constructor(name, options, changed, { scale = false } = {}) {
    this.value = null;
    this.changed = changed;
    this.options = options;
    this.buttons = options.map((option, i) =>
      el("button", {
        type: "button", role: "radio", "aria-checked": "false", tabindex: i ? "-1" : "0", class: option.class ?? "",
        "aria-keyshortcuts": option.key, onclick: () => this.choose(option.value), onkeydown: (event) => this.#move(event, i),
      }, option.label, option.key ? el("kbd", { "aria-hidden": "true" }, option.key) : null));
    this.keys = Object.fromEntries(options.filter((option) => option.key).map((option) => [option.key, () => this.choose(option.value)]));
    this.element = el("div", { class: `choices${scale ? " scale" : ""}`, role: "radiogroup", ...name }, ...this.buttons);
  }

  choose(value, told = true) {
    this.value = value;
    const at = this.options.findIndex((option) => same(option.value, value));
    this.buttons.forEach((button, i) => {
      button.setAttribute("aria-checked", String(i === at));
      button.tabIndex = i === Math.max(at, 0) ? 0 : -1;
    });
    if (told) this.changed(value);
  }

  #move(event, i) {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const next = (i + step + this.buttons.length) % this.buttons.length;
    this.buttons[next].focus();
    this.choose(this.options[next].value);
  }
}

function same(first, second) {
  return JSON.stringify(first) === JSON.stringify(second);
}
