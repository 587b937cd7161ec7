// Forms that are sent as JSON. A form says by attributes what happens:
//   data-send="POST" data-path="/api/..."   where it goes
//   data-confirm="..."                      asked first
//   data-said="..."                         told when it has worked
//   data-then="/projects/{id}"              where to go then, filled in from the answer; else the page is loaded again
// Of its fields, a number is sent as a number (null when empty), a checkbox as true or false, those
// with data-as="lines" as a list of lines, "json" as what they hold, "chosen" as a list of all that are ticked.
import { Refusal, send } from "./api.js";
import { el } from "./dom.js";
import { t } from "./texts.js";

const KEPT = "backflip-said";

/** What a form's fields say, as JSON; throws a `Refusal` for a field that cannot be read. */
export function readForm(form, submitter) {
  const body = {};
  for (const field of form.elements) {
    if (!field.name || field.disabled || field.type === "submit") continue;
    if (field.dataset.as === "chosen") body[field.name] = [...(body[field.name] ?? []), ...(field.checked ? [field.value] : [])];
    else if (field.type === "checkbox") body[field.name] = field.checked;
    else if (field.type === "radio") { if (field.checked) body[field.name] = field.value; }
    else if (field.type === "number") body[field.name] = field.value === "" ? null : Number(field.value);
    else if (field.dataset.as === "lines") body[field.name] = field.value.split("\n").map((line) => line.trim()).filter(Boolean);
    else if (field.dataset.as === "json") body[field.name] = parsed(field);
    else if (field.dataset.as === "optional") body[field.name] = field.value.trim() === "" ? null : field.value.trim();
    else body[field.name] = field.value;
  }
  if (submitter?.name) body[submitter.name] = submitter.value;
  return body;
}

function parsed(field) {
  try {
    return JSON.parse(field.value);
  } catch (error) {
    throw new Refusal(422, t("This is no JSON: {why}", { why: error.message }), null);
  }
}

/** Say something at the top of the page. */
export function say(words) {
  const line = document.getElementById("said");
  line.textContent = words;
  line.hidden = !words;
}

/** Ask before something that cannot be undone; true for yes. */
export function confirmed(question, action) {
  return new Promise((resolve) => {
    const dialog = el("dialog", { "aria-labelledby": "question" },
      el("p", { id: "question" }, question),
      el("form", { method: "dialog", class: "row" },
        el("button", { value: "no" }, t("Cancel")), el("button", { value: "yes", class: "main" }, action)));
    dialog.addEventListener("close", () => { resolve(dialog.returnValue === "yes"); dialog.remove(); });
    document.body.append(dialog);
    dialog.showModal();
  });
}

function tell(form, refusal) {
  const words = { 0: t("The server cannot be reached. Try again; nothing on this page is lost."), 401: t("You are signed out. Sign in again in another tab; nothing on this page is lost.") };
  const fault = form.querySelector(":scope > .fault") ?? form.appendChild(el("p", { class: "fault", role: "alert" }));
  fault.textContent = words[refusal.status] ?? [refusal.message, refusal.hint].filter(Boolean).join(" ");
  fault.scrollIntoView({ block: "nearest" });
}

async function submit(event) {
  const form = event.target;
  const { send: method, path, confirm: question, said, then } = form.dataset;
  if (!method) return;
  event.preventDefault();
  const button = event.submitter ?? form.querySelector("button");
  const asked = event.submitter?.dataset.confirm ?? question;
  if (asked && !(await confirmed(asked, button.firstChild.textContent.trim()))) return;
  form.querySelector(":scope > .fault")?.remove();
  button.disabled = true;
  try {
    const told = await send(method, path, readForm(form, event.submitter));
    if (!form.dispatchEvent(new CustomEvent("sent", { detail: told, cancelable: true }))) return;
    sessionStorage.setItem(KEPT, said ?? t("Saved."));
    if (then) location.assign(then.replace(/\{(\w+)\}/g, (whole, name) => told[name] ?? whole));
    else location.reload();
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    tell(form, error);
  } finally {
    button.disabled = false;
  }
}

/** Take over the forms of the page, and say what the last one did. */
export function takeForms() {
  document.addEventListener("submit", submit);
  const kept = sessionStorage.getItem(KEPT);
  sessionStorage.removeItem(KEPT);
  if (kept) say(kept);
}
