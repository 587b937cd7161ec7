// In what a text that somebody rewrites differs from the text that it was.
import { el } from "../dom.js";
import { t } from "../texts.js";

const PIECES = /\s+|[\p{L}\p{M}\p{N}_]+|[^\s\p{L}\p{M}\p{N}_]/gu;
// Up to this product of the numbers of pieces the fewest changes are looked for; beyond, all between
// the first and the last change counts as changed.
const MOST = 4_000_000;
// What nobody sees, as in web/signs.py; tabs and the ends of lines are seen, and so are format
// characters that stand around or under a number.
const UNSEEN = /((?![\t\n\r\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\u{110bd}\u{110cd}])[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}])/u;
const WAIT = 150; // milliseconds without a key

/** Runs of `before` and `after` in their order, each `{ is: "same" | "gone" | "new", text }`: all but the new ones are `before`, all but those gone are `after`. */
export function difference(before, after) {
  const a = before.match(PIECES) ?? [], b = after.match(PIECES) ?? [];
  const least = Math.min(a.length, b.length);
  let start = 0, end = 0;
  while (start < least && a[start] === b[start]) start += 1;
  while (end < least - start && a.at(-1 - end) === b.at(-1 - end)) end += 1;
  const between = steps(a.slice(start, a.length - end), b.slice(start, b.length - end));
  return runs([...same(a.slice(0, start)), ...between, ...same(a.slice(a.length - end))]);
}

const same = (pieces) => pieces.map((text) => ({ is: "same", text }));

/** The steps from one list of pieces to another along a longest common subsequence. */
function steps(a, b) {
  const gone = (text) => ({ is: "gone", text }), added = (text) => ({ is: "new", text });
  if (a.length * b.length > MOST) return [...a.map(gone), ...b.map(added)];
  const width = b.length + 1;
  const kept = new Uint16Array((a.length + 1) * width); // of what stands from here on
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      const at = i * width + j;
      kept[at] = a[i] === b[j] ? kept[at + width + 1] + 1 : Math.max(kept[at + width], kept[at + 1]);
    }
  }
  const found = [];
  for (let i = 0, j = 0; i < a.length || j < b.length;) {
    if (i < a.length && j < b.length && a[i] === b[j]) { found.push({ is: "same", text: a[i] }); i += 1; j += 1; }
    else if (j === b.length || (i < a.length && kept[(i + 1) * width + j] >= kept[i * width + j + 1])) found.push(gone(a[i++]));
    else found.push(added(b[j++]));
  }
  return found;
}

/** Steps put together: what goes stands before what comes, and a space between two changes is no reason to part them. */
function runs(steps) {
  const found = [];
  let change = { gone: "", new: "" }, rest = "";
  const close = () => {
    for (const is of ["gone", "new"]) if (change[is]) found.push({ is, text: change[is] });
    if (rest) found.push({ is: "same", text: rest });
    change = { gone: "", new: "" };
    rest = "";
  };
  for (const { is, text } of steps) {
    if (is === "same") { rest += text; continue; }
    if (rest.trim() || !(change.gone || change.new)) close();
    else { change.gone += rest; change.new += rest; rest = ""; }
    change[is] += text;
  }
  close();
  return found;
}

/** Runs of a `difference` as elements, in words for who cannot see them. */
export function told(found) {
  return found.flatMap(({ is, text }) => {
    if (is === "same") return seen(text);
    const [tag, words] = is === "gone" ? ["del", t("taken out:")] : ["ins", t("put in:")];
    return [el(tag, {}, el("span", { class: "hidden" }, words, " "), ...seen(text))];
  });
}

/** A text with signs for characters that nobody sees: they could turn a line around, or hide words. */
function seen(text) {
  return text.split(UNSEEN).filter(Boolean).map((part) => (UNSEEN.test(part)
    ? el("span", { class: "sign" }, `[U+${part.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}]`) : part));
}

/** Shows the changes beside the field in which somebody makes them. */
export class Changes {
  #timer = null;
  constructor(area, before) {
    this.area = area;
    this.before = before;
    this.title = el("summary");
    this.text = el("div", { class: "difference", tabindex: "0", dir: "auto", role: "group", "aria-label": t("What you have changed") });
    this.element = el("details", { class: "changes", open: true, hidden: true }, this.title, this.text);
    area.addEventListener("input", () => { clearTimeout(this.#timer); this.#timer = setTimeout(() => this.show(), WAIT); });
  }
  show() {
    const found = difference(this.before, this.area.value);
    const changed = found.filter(({ is }, i) => is !== "same" && !(is === "new" && found[i - 1]?.is === "gone"));
    this.element.hidden = !changed.length;
    this.title.textContent = t("Changes: {number}", { number: changed.length });
    this.text.replaceChildren(...told(found));
  }
}
