// Takes answers back after asking, and tells what was made from them.
import { Refusal, send } from "./api.js";
import { el } from "./dom.js";
import { confirmed } from "./forms.js";
import { t } from "./texts.js";

/** Buttons with `data-withdraw` take back what their address names; `question(button)` is asked first, and the `around` that holds the button goes. */
export function takeBack(question, around) {
  for (const button of document.querySelectorAll("[data-withdraw]")) {
    button.addEventListener("click", async () => {
      if (!(await confirmed(question(button), t("Take back")))) return;
      const shown = document.getElementById("touched");
      try {
        const answer = await send("POST", button.dataset.withdraw, {});
        shown.replaceChildren(el("p", { class: "done" }, t("{withdrawn} answers taken back.", answer)), touched(answer));
        button.closest(around).remove();
      } catch (error) {
        if (!(error instanceof Refusal)) throw error;
        shown.replaceChildren(el("p", { class: "fault" }, error.message));
      }
      shown.scrollIntoView({ block: "nearest" });
    });
  }
}

/** The models that answers were made into, as they were taken back. */
export function touched({ reward_models, policies }) {
  const models = [...reward_models, ...policies];
  if (!models.length) return el("p", {}, t("No model was made from them."));
  return el("div", {}, el("p", {}, t("Made from them, and to be trained again:")), el("ul", {}, ...models.map((model) => el("li", {}, model))));
}
