// What the pages of leads and administrators share: forms, times, and what is shown only once:
//   data-link="link" data-shows="url"   the part of the page that shows it, and its name in the answer
import { takeForms } from "./forms.js";
import { describe } from "./pictures.js";
import { t } from "./texts.js";
import { showTimes } from "./times.js";

takeForms();
showTimes(document);
describe(document);

for (const form of document.querySelectorAll("form[data-link]")) {
  const part = document.getElementById(form.dataset.link);
  const shown = part.querySelector("input");
  form.addEventListener("sent", (event) => {
    event.preventDefault();
    shown.value = event.detail[form.dataset.shows];
    part.hidden = false;
    part.querySelector("[role=status]").textContent = "";
    shown.focus();
    shown.select();
  });
  part.querySelector("button").addEventListener("click", async () => {
    shown.select();
    // Without https a browser has no clipboard: the text is selected, so that Ctrl-C takes it.
    const copied = await navigator.clipboard?.writeText(shown.value).then(() => true, () => false);
    part.querySelector("[role=status]").textContent = copied ? t("Copied.") : t("Press Ctrl-C to copy it.");
  });
}
