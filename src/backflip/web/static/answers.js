// Single answers can be taken back; what somebody has changed in a reply is shown.
import { difference, told } from "./label/changes.js";
import { t } from "./texts.js";
import { takeBack } from "./withdraw.js";

for (const place of document.querySelectorAll("[data-before]")) {
  place.replaceChildren(...told(difference(place.dataset.before, place.dataset.after)));
}

takeBack(() => t("Take this answer back?"), "article");
