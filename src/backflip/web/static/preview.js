// The preview of instructions: as the server renders them for those who answer.
import { Refusal, send } from "./api.js";
import { el, rendered } from "./dom.js";
import { t } from "./texts.js";

const form = document.getElementById("guideline");
const part = document.getElementById("preview");
const place = document.getElementById("preview-text");
const button = document.getElementById("show-preview");

button.addEventListener("click", async () => {
  try {
    const { html, notes } = await send("POST", form.dataset.preview, { text: form.elements.text.value });
    const warned = notes.length ? el("p", { class: "notes" }, t("Holds characters that nobody sees; they are shown as signs.")) : "";
    place.replaceChildren(warned, rendered(html));
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    place.replaceChildren(el("p", { class: "fault", role: "alert" }, error.status ? t("There is nothing to show yet.") : t("The server cannot be reached. Try again; nothing on this page is lost.")));
  }
  part.hidden = false;
  button.setAttribute("aria-expanded", "true");
  part.focus();
});
