// Making elements: texts are always text, never markup.

/** An element with properties, attributes and children; strings become text. */
export function el(tag, options = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "class") made.className = value;
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** A text that the server has rendered and sanitised. Nothing else may come here. */
export function rendered(html) {
  const made = el("div", { class: "text" });
  made.innerHTML = html;
  return made;
}

/** Whether keys that are pressed now belong to a text that somebody writes. */
export function isWriting(target) {
  return target instanceof HTMLElement && target.matches("textarea, select, input:not([type=checkbox])");
}
