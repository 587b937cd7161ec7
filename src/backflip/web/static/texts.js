// Texts in the reader's language; English is its own key.
const found = document.getElementById("texts");
const texts = found ? JSON.parse(found.textContent) : {};

/** The text in the reader's language; `{name}` in it is filled in from `values`. */
export function t(text, values = {}) {
  return (texts[text] ?? text).replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}
