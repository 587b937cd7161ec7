// Tells what has become of a person's data, in place of the form that asked.
import { el } from "./dom.js";
import { t } from "./texts.js";
import { touched } from "./withdraw.js";

const form = document.getElementById("forget");

form.addEventListener("sent", (event) => {
  event.preventDefault();
  const told = event.detail;
  const shown = document.getElementById("touched");
  const lines = [el("p", { class: "done" }, told.account_deleted ? t("The account is deleted.") : t("The person has left the project and is not named in it any more."))];
  if (told.retracted) lines.push(el("p", {}, t("{withdrawn} answers taken back.", { withdrawn: told.retracted })), touched(told));
  if (told.texts_kept) lines.push(el("p", {}, t("Texts not erased, because others speak of them: {number}.", { number: told.texts_kept })));
  form.remove();
  shown.replaceChildren(...lines);
  document.getElementById("forgotten").hidden = false;
  shown.focus();
});
