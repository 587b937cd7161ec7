// Forms that put up questions: fields that depend on the kind, and a file that fills a field.
import { say } from "./forms.js";
import { t } from "./texts.js";

for (const form of document.querySelectorAll("form[data-send]")) {
  const { kind, axis, samples_per_prompt: each } = form.elements;
  if (!kind) continue;
  const follow = () => {
    const { least, usual, axis: own } = kind.selectedOptions[0].dataset;
    // Some kinds, as a safety flag, are always given on an axis of their own.
    axis.disabled = own !== "";
    axis.placeholder = own || "overall";
    if (!each) return;
    each.min = least;
    each.value = usual;
  };
  kind.addEventListener("change", follow);
  follow();
}

const batch = document.getElementById("new-batch");
if (batch) {
  const { which, seed } = batch.elements;
  const follow = () => { seed.readOnly = which.value !== "random"; };
  which.addEventListener("change", follow);
  follow();
}

const checks = document.getElementById("checks-file");
checks.querySelector("input[type=file]").addEventListener("change", async (event) => {
  const [file] = event.target.files;
  if (!file) return;
  const text = await file.text();
  const lines = text.split("\n").filter((line) => line.trim());
  const one = text.trim().startsWith("[");
  checks.elements.items.value = one ? text : `[${lines.join(",\n")}]`;
  if (!checks.elements.name.value) checks.elements.name.value = file.name.replace(/\.jsonl?$/, "");
  say(t("{name} is read: look at it and put it up.", { name: file.name }));
});
