// Loads the page again when the report that is being made is there.
import { send } from "./api.js";

const project = document.querySelector("main").dataset.project;

async function look() {
  const told = await send("GET", `/api/projects/${project}/quality`).catch(() => ({ wanted: true }));
  if (!told.wanted) location.reload();
  else setTimeout(look, 2000);
}

if (document.getElementById("made").dataset.wanted === "yes") setTimeout(look, 2000);
