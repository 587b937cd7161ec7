// What went wrong, in the reader's language, and what to do about it.
import { el } from "../dom.js";
import { t } from "../texts.js";

const BUSY = [429, 503];
const GONE = [404, 409];

function reason(status) {
  if (status === 0) return t("The server cannot be reached.");
  if (status === 401) return t("You are signed out.");
  if (GONE.includes(status)) return t("This question is not yours any more: it is answered already, or your time for it ran out.");
  if (BUSY.includes(status)) return t("The server has too much to do.");
  if (status >= 500) return t("The server has a fault.");
  return t("The server does not take it.");
}

/** Whether the question on the page is lost to its reader. */
export function isGone(refusal) {
  return GONE.includes(refusal.status);
}

/** Tell in an alert; `again` tries anew, `another` goes on with another question. */
export function tell(alert, { failed, refusal, again, another }) {
  const kept = isGone(refusal) ? "" : t("Nothing on this page is lost.");
  const exact = [0, 401].includes(refusal.status) ? null : [refusal.message, refusal.hint].filter(Boolean).join(" ");
  const action = isGone(refusal) ? el("button", { type: "button", onclick: another }, t("Go on with another one"))
    : el("button", { type: "button", onclick: again }, t("Try again"));
  alert.replaceChildren(
    el("p", {}, el("strong", {}, failed), ` ${reason(refusal.status)} ${kept}`),
    exact ? el("p", { class: "quiet", lang: "en" }, exact) : "",
    el("p", { class: "actions" },
      refusal.status === 401 ? el("a", { class: "button", href: "/login", target: "_blank" }, t("Sign in, in another window")) : null, action));
  alert.hidden = false;
}
