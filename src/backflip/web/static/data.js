// Uploads a file, and takes somebody's answers back after asking.
import { el } from "./dom.js";
import { t } from "./texts.js";
import { takeBack } from "./withdraw.js";

const form = document.getElementById("import");
const told = document.getElementById("imported");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  told.replaceChildren(el("p", {}, t("The file is on its way …")));
  try {
    const response = await fetch(form.dataset.path, { method: "POST", body: new FormData(form), headers: { "x-csrf-token": document.querySelector("meta[name=csrf]").content } });
    const answer = await response.json().catch(() => ({ error: { what: response.statusText } }));
    told.replaceChildren(...(response.ok ? report(answer) : [el("p", { class: "fault" }, [answer.error.what, answer.error.hint].filter(Boolean).join(" "))]));
  } catch {
    told.replaceChildren(el("p", { class: "fault" }, t("The server cannot be reached.")));
  } finally {
    button.disabled = false;
  }
});

function report(answer) {
  const lines = [el("p", { class: "done" }, t("{entries} answers read as {format}, {new} of them new; {rejected} rows were not taken.", answer))];
  const unused = Object.entries(answer.ignored).map(([name, rows]) => `${name} (${rows})`).join(", ");
  if (unused) lines.push(el("p", {}, t("Columns that were not used, and in how many rows: {unused}.", { unused })));
  if (answer.faults.length) lines.push(el("ul", {}, ...answer.faults.map((fault) => el("li", {}, fault))));
  return lines;
}

takeBack((button) => t("Take back all that {name} said in this project?", { name: button.dataset.name }), "li");
