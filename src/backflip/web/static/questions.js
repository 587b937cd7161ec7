// Forms that put up questions: fields that depend on the kind, and a file that fills a field.
import { say } from "./forms.js";
import { t } from "./texts.js";

const REPLIES = { comparison: [2, 2], ranking: [2, 4], demonstration: [1, 2] };

for (const form of document.querySelectorAll("form[data-send]")) {
  const { kind, axis, samples_per_prompt: each } = form.elements;
  if (!kind) continue;
  const follow = () => {
    // A safety flag is always given on an axis of its own.
    axis.disabled = kind.value === "safety_flag";
    axis.placeholder = axis.disabled ? "safe" : "overall";
    if (!each) return;
    const [least, usual] = REPLIES[kind.value] ?? [1, 1];
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
