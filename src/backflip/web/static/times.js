// Times in the reader's own zone and language; the server writes them in UTC.
const language = document.documentElement.lang;
const STYLES = {
  hour: { hour: "2-digit", minute: "2-digit" },
  day: { dateStyle: "medium" },
  moment: { dateStyle: "medium", timeStyle: "short" },
};

/** A time as its reader writes it; `style` is a name out of `STYLES`. */
export function localTime(iso, style) {
  return new Intl.DateTimeFormat(language, STYLES[style]).format(new Date(iso));
}

/** Write every `<time data-time>` below an element in the reader's way. */
export function showTimes(root) {
  for (const each of root.querySelectorAll("time[data-time]")) each.textContent = localTime(each.dateTime, each.dataset.time);
}
