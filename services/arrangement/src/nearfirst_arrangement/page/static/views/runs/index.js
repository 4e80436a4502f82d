/** Runs: trainings, one or several. */
import { RunList } from "./list.js";
import { NewRun } from "./new.js";
import { RunView } from "./run.js";

/** @type {import("../index.js").Area} */
export const area = { label: "Runs", path: "/runs", views: { "/runs": RunList, "/runs/new": NewRun, "/runs/:id": RunView } };
