/** Evaluations: what checkpoints can do. */
import { EvaluationView } from "./evaluation.js";
import { EvaluationList } from "./list.js";
import { NewEvaluation } from "./new.js";

/** @type {import("../index.js").Area} */
export const area = {
  label: "Evaluations",
  path: "/evaluations",
  views: { "/evaluations": EvaluationList, "/evaluations/new": NewEvaluation, "/evaluations/:id": EvaluationView },
};
