// Single answers can be taken back.
import { t } from "./texts.js";
import { takeBack } from "./withdraw.js";

takeBack(() => t("Take this answer back?"), "article");
