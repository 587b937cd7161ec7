// Keeps the overview of a project up to date: the server sends what has changed.
import { t } from "./texts.js";
import { localTime } from "./times.js";

const get = (id) => document.getElementById(id);
const project = document.querySelector("main").dataset.project;
const STATES = { open: t("open"), paused: t("paused"), closed: t("closed") };
const HEIGHT = 58;

function fill(root, values) {
  for (const [name, value] of Object.entries(values)) {
    const part = root.querySelector(`[data-is="${name}"]`);
    if (part && typeof value === "boolean") part.hidden = !value;
    else if (part) part.textContent = value;
  }
}

/** Make the rows of a table those of the list, and change only what differs. */
function fillRows(body, template, list, key, change) {
  const known = new Map([...body.children].map((row) => [row.dataset.key, row]));
  const rows = list.map((each) => {
    const name = String(each[key]);
    const row = known.get(name) ?? template.content.firstElementChild.cloneNode(true);
    row.dataset.key = name;
    change(row, each);
    return row;
  });
  if (rows.length !== body.children.length || rows.some((row, i) => row !== body.children[i])) body.replaceChildren(...rows);
}

function showBatch(row, batch) {
  const asked = batch.purpose === "labels";
  const words = { checks: batch.purpose === "checks", asides: batch.purpose === "asides" };
  fill(row, { ...batch, ...words, state: STATES[batch.state], wanted: asked ? batch.wanted : "–", left: asked ? batch.left : "–" });
  const bar = row.querySelector("progress");
  bar.hidden = !asked;
  bar.max = batch.wanted || 1;
  bar.value = batch.done;
}

function showHours(hours) {
  const most = Math.max(1, ...hours.map((hour) => hour.answers));
  const bars = get("hours");
  hours.forEach((hour, i) => {
    const height = (HEIGHT * hour.answers) / most;
    bars.children[i].setAttribute("y", String(60 - height));
    bars.children[i].setAttribute("height", String(height));
  });
  const total = hours.reduce((sum, hour) => sum + hour.answers, 0);
  bars.setAttribute("aria-label", t("{total} answers in 24 hours, at most {most} in one", { total, most: Math.max(...hours.map((hour) => hour.answers)) }));
  const first = get("first-hour");
  first.dateTime = hours[0].start;
  first.textContent = localTime(hours[0].start, "hour");
  const rows = get("hour-rows").children;
  hours.toReversed().forEach((hour, i) => {
    const [time, answers] = rows[i].children;
    time.firstElementChild.dateTime = hour.start;
    time.firstElementChild.textContent = localTime(hour.start, "hour");
    answers.textContent = hour.answers;
  });
}

function showAccuracy(row, each) {
  const percent = (share) => (100 * share).toFixed(0);
  const { name, axis, answers, heldout, enough } = each;
  const interval = `${percent(each.low)}–${percent(each.high)}`;
  fill(row, { name, axis, answers, heldout: Number(heldout.toFixed(1)), share: enough, few: !enough, percent: `${percent(each.value)}%`, interval });
  row.querySelector("meter").value = each.value;
}

function show(overview) {
  const { batches, people, hours, accuracies, ...totals } = overview;
  const of = (number) => t("of {number}", { number });
  fill(get("totals"), { ...totals, wanted: of(totals.wanted), budget: totals.budget === null ? t("no limit") : of(totals.budget), hour: hours.at(-1).answers });
  fillRows(get("batches"), get("batch-row"), batches, "number", showBatch);
  fillRows(get("people"), get("person-row"), people, "name", fill);
  fillRows(get("accuracies"), get("accuracy-row"), accuracies, "key", showAccuracy);
  get("accuracies-part").hidden = !accuracies.length;
  get("nothing").hidden = Boolean(batches.length);
  get("batches-part").hidden = !batches.length;
  get("people-table").hidden = !people.length;
  get("nobody").hidden = Boolean(people.length);
  showHours(hours);
}

const source = new EventSource(`/api/projects/${project}/events`);
source.addEventListener("message", (event) => {
  show(JSON.parse(event.data));
  get("live").textContent = t("Live");
});
source.addEventListener("error", () => {
  get("live").textContent = source.readyState === EventSource.CLOSED ? t("No longer live: load the page again.") : t("Connecting again …");
});
