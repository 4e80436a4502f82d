/** From the fields of a form to the body of POST /evaluations. */
import { Problem } from "../../core/api.js";

/** What can be measured. */
export const METRICS = ["loss", "rouge1", "rougeL", "exact_match", "reward"];

const NUMBERS = [
  "every", "num_examples", "seed",
  "generation.max_new_tokens", "generation.temperature", "generation.top_p", "generation.repetition_penalty",
  "generation.seed", "generation.batch_size",
];

/** Names of all fields, as the API calls them. */
export const fieldNames = ["train_job", "test.dataset", "test.tasks", "metrics", "precision", "fidelity", "reward.model", ...NUMBERS];

/** A form as it is at first; all values but the metrics are texts. */
export function emptyForm() {
  const texts = Object.fromEntries(fieldNames.map((name) => [name, ""]));
  return { ...texts, metrics: ["loss"], precision: "fp32", fidelity: "corrected" };
}

/** Whether something is measured of answers. @param {{metrics: string[]}} form */
export const needsAnswers = (form) => form.metrics.some((metric) => metric !== "loss");

/**
 * The body of the request: fields that are left empty are left out.
 * @param {any} form
 * @returns {any}
 * @throws {Problem} what the API couldn't say of a body that lacks it
 */
export function bodyOf(form) {
  const errors = [
    ...(form.train_job ? [] : [{ field: "train_job", wanted: "choose whose checkpoints are to be measured" }]),
    ...(form["test.dataset"] ? [] : [{ field: "test.dataset", wanted: "choose what they are to be measured on" }]),
  ];
  if (errors.length) throw new Problem({ status: 422, title: "Something is missing", detail: "Fields that are needed are empty.", errors });
  const body = { train_job: form.train_job, metrics: form.metrics, precision: form.precision, fidelity: form.fidelity, test: { dataset: form["test.dataset"] } };
  const tasks = form["test.tasks"].split(",").map((task) => task.trim()).filter(Boolean);
  if (tasks.length) body.test.tasks = tasks;
  const wanted = NUMBERS.filter((name) => form[name] !== "" && (needsAnswers(form) || !name.startsWith("generation.")));
  for (const name of wanted) put(body, name.split("."), Number(form[name]));
  if (form.metrics.includes("reward") && form["reward.model"]) put(body, ["reward", "model"], form["reward.model"]);
  return body;
}

function put(body, [first, second], value) {
  if (second === undefined) body[first] = value;
  else body[first] = { ...body[first], [second]: value };
}
