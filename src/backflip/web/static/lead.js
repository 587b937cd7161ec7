// What the pages of leads and administrators share: forms, times, and links that are shown once.
import { takeForms } from "./forms.js";
import { t } from "./texts.js";
import { showTimes } from "./times.js";

takeForms();
showTimes(document);

for (const form of document.querySelectorAll("form[data-link]")) {
  const part = document.getElementById(form.dataset.link);
  const address = part.querySelector("input");
  form.addEventListener("sent", (event) => {
    event.preventDefault();
    address.value = event.detail.url;
    part.hidden = false;
    part.querySelector("[role=status]").textContent = "";
    address.focus();
    address.select();
  });
  part.querySelector("button").addEventListener("click", async () => {
    address.select();
    // Without https a browser has no clipboard: the address is selected, so that Ctrl-C takes it.
    const copied = await navigator.clipboard?.writeText(address.value).then(() => true, () => false);
    part.querySelector("[role=status]").textContent = copied ? t("Copied.") : t("Press Ctrl-C to copy the address.");
  });
}
