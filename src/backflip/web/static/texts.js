// Texts in the reader's language; English is its own key.
const found = document.getElementById("texts");
const texts = new Map(Object.entries(found ? JSON.parse(found.textContent) : {}));

/** The text in the reader's language; `{name}` in it is filled in from `values`. */
export function t(text, values = {}) {
  return (texts.get(text) ?? text).replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** The text as it is: says that `t` will be given it, to whoever collects the texts. */
export const word = (text) => text;
