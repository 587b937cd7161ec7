// Images of questions: one of which nobody has said what it shows says so, in the reader's language.
import { t } from "./texts.js";

/** Give each image within an element its words, where the file has none. */
export function describe(element) {
  for (const image of element.querySelectorAll("img[data-undescribed]")) image.alt = t("image without description");
}
