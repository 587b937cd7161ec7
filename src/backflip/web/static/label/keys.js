// The list of keys that work now, for the dialogue that shows them.
import { el } from "../dom.js";
import { t } from "../texts.js";

function ofForm(task, form) {
  if (!task) return [];
  if (form.listed) return form.listed();
  const options = form.choices?.options ?? form.extra?.options ?? [];
  return [...(form.keys.e ? [[["e"], t("write")]] : []), ...options.map((option) => [[option.key], option.label])];
}

function ofExtras(extras) {
  if (!extras || extras.element.hidden) return [];
  const marking = [[["x"], t("Mark in the text")], [["←", "→"], t("to the next sentence")], [["1", "2"], t("mark it, with this meaning")]];
  return [[["m"], t("Say more (not needed)")], ...(extras.marking ? marking : [])];
}

/** The list as elements of a `<dl>`. */
export function listKeys(task, form, extras) {
  const rows = [
    ...ofForm(task, form),
    [["Enter"], t("Save and go on")],
    [[t("Ctrl"), "Enter"], t("Save while writing")],
    [["Escape"], t("Leave the text")],
    ...ofExtras(extras),
    [["s"], t("Cannot judge, skip")],
    [["w"], t("Say why to skip")],
    [["u"], t("Undo the last answer")],
    [["v"], t("Show the source")],
    [["i"], t("Instructions")],
  ];
  return asList(rows);
}

/** Keys and what they do, as elements of a `<dl>`. */
export function asList(rows) {
  return rows.flatMap(([keys, words]) => [el("dt", {}, ...keys.flatMap((key) => [el("kbd", {}, key), " "])), el("dd", {}, words)]);
}
