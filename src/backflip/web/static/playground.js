// Replies of several models side by side, as they are written; what is said of two can be kept.
import { Refusal, send } from "./api.js";
import { el, rendered } from "./dom.js";
import { t, word } from "./texts.js";

const STATES = { waiting: word("waits for the worker"), running: word("writes …"), done: word("done"), failed: word("failed"), cancelled: word("stopped") };
const form = document.getElementById("ask");
const get = (id) => document.getElementById(id);
let events = null;
let asked = [];

if (form) {
  form.addEventListener("submit", (event) => { event.preventDefault(); ask(); });
  get("stop").addEventListener("click", stop);
  get("compare").addEventListener("submit", (event) => { event.preventDefault(); keep(); });
}

function number(name) {
  const value = form.elements[name].value;
  return value === "" ? null : Number(value);
}

async function ask() {
  const boxes = [...form.querySelectorAll("[name=models]:checked")];
  if (!boxes.length) { get("told").textContent = t("Choose a model first."); return; }
  events?.close();
  get("compare").hidden = true;
  const body = { models: boxes.map((box) => box.value), messages: [{ role: "user", content: form.elements.text.value }] };
  for (const name of ["temperature", "top_k", "top_p", "max_tokens", "seed"]) body[name] = number(name);
  try {
    const told = await send("POST", `${form.dataset.path}/playground`, body);
    asked = told.generations.map((id, i) => ({ id, name: boxes[i].dataset.name }));
    get("told").textContent = told.worker ? t("Seed {seed}", { seed: told.seed }) : t("Nobody replies: no worker is running.");
    get("replies").replaceChildren(...asked.map((each) => card(each)));
    follow();
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    get("told").textContent = [error.message, error.hint].filter(Boolean).join(" ");
  }
}

function card(each) {
  each.state = el("span", { class: "quiet spacer" });
  each.body = el("div", { class: "body", tabindex: "0", role: "group", "aria-label": t("Text of {name}", { name: each.name }) });
  return el("article", { class: "reply", "aria-label": each.name }, el("header", {}, el("h2", {}, each.name), each.state), each.body);
}

function query() {
  return asked.map((each) => `id=${encodeURIComponent(each.id)}`).join("&");
}

function follow() {
  get("stop").disabled = false;
  events = new EventSource(`${form.dataset.path}/generations/events?${query()}`);
  events.addEventListener("message", (event) => {
    const found = JSON.parse(event.data);
    for (const one of found) {
      const each = asked.find((other) => other.id === one.id);
      each.done = one.sample;
      each.state.textContent = t(STATES[one.state]);
      const cut = one.truncated ? [el("p", { class: "notes" }, t("The model was cut off here."))] : [];
      each.body.replaceChildren(one.error ? el("p", { class: "fault" }, one.error) : rendered(one.html), ...cut);
    }
    if (found.every((one) => !["waiting", "running"].includes(one.state))) end();
  });
}

function end() {
  events.close();
  get("stop").disabled = true;
  const done = asked.filter((each) => each.done);
  if (done.length < 2) return;
  for (const [name, chosen] of [["a", 0], ["b", 1]]) {
    get("compare").elements[name].replaceChildren(...done.map((each) => el("option", { value: each.id }, each.name)));
    get("compare").elements[name].selectedIndex = chosen;
  }
  get("compare").hidden = false;
}

async function stop() {
  await send("POST", `${form.dataset.path}/generations/cancel?${query()}`, {}).catch(() => null);
}

async function keep() {
  const fields = get("compare").elements;
  try {
    await send("POST", `${form.dataset.path}/playground/compare`, { a: fields.a.value, b: fields.b.value, choice: fields.choice.value });
    get("told").textContent = t("Kept as feedback.");
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    get("told").textContent = error.message;
  }
}
