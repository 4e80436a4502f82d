/** What the form for a training holds, and the spec that it makes. */

/** The models that presets begin with. */
export const PAPER_MODEL = "meta-llama/Llama-2-7b-hf";

/** @typedef {Record<string, string>} TrainForm text, as inputs have it */

/** @type {Record<string, TrainForm>} */
export const PRESETS = {
  tiny: { model: "", init: "random", length: "steps", steps: "80", epochs: "1", batch: "16", maxLength: "640", lr: "0.001", gpus: "0", weightsEvery: "8", seed: "0", every: "10", precision: "fp32" },
  paper: { model: PAPER_MODEL, init: "pretrained", length: "epochs", steps: "", epochs: "1", batch: "16", maxLength: "1024", lr: "0.000001", gpus: "2", weightsEvery: "10", seed: "0", every: "10", precision: "bf16" },
};

/** The name of a field in the API's answers -> its name here. */
export const API_FIELDS = {
  model: "model", "model.init": "init", max_steps: "steps", epochs: "epochs", global_batch_size: "batch", max_length: "maxLength",
  optimizer: "lr", gpus: "gpus", seed: "seed", checkpoint: "weightsEvery", evaluate: "test", precision: "precision",
  arrangement: "source", dataset: "source",
};

/**
 * The body of POST /train-jobs.
 * @param {TrainForm} form
 * @param {string} preset "tiny" or "paper"
 * @param {{arrangement?: string, dataset?: string}} source what is trained on
 * @returns {object}
 */
export function trainSpecOf(form, preset, source) {
  const spec = {
    ...source,
    ...(preset === "paper" ? { preset: "paper" } : {}),
    model: { name_or_path: form.model.trim(), init: form.init },
    global_batch_size: numberOf(form.batch),
    max_length: numberOf(form.maxLength),
    optimizer: { lr: numberOf(form.lr) },
    precision: form.precision,
    gpus: numberOf(form.gpus),
    seed: numberOf(form.seed),
  };
  if (form.length === "steps") spec.max_steps = numberOf(form.steps);
  else spec.epochs = numberOf(form.epochs);
  if (form.weightsEvery.trim() !== "") spec.checkpoint = { weights_every: numberOf(form.weightsEvery) };
  if (form.test !== "") spec.evaluate = { test: form.test, every: numberOf(form.every) };
  return spec;
}

function numberOf(text) {
  const value = Number(text.trim());
  return text.trim() === "" || Number.isNaN(value) ? text.trim() : value;
}
