/** What the form for an arrangement holds, and the spec that it makes. */
import { isSeeded, needsEmbeddings, ordersOf } from "./methods.js";

/** The form before anything is filled in: text, as inputs have it. `other`: a representation that it can't describe. */
export const BLANK = {
  train: "", trainTasks: "", test: "", testTasks: "",
  method: "tma", order: "nft", limit: "", granularity: "fine", similarity: "cosine", fidelity: "corrected", seed: "0",
  selectHow: "", selectPerTask: "100", testPerTask: "", wMin: "1", wAvg: "auto", roundsFrom: "", roundsTo: "",
  hasRepresentation: false, kind: "sentence-transformer", model: "", text: "first_turn", precision: "exact", maxLength: "", pooling: "weighted_mean",
  other: null,
};

/** Kinds of representation that the form can describe; value and words. @type {[string, string][]} */
export const KINDS = [["sentence-transformer", "Sentence transformer"], ["causal-lm", "Causal language model"]];

/** The name of a field in the API's answers -> its name here. */
export const API_FIELDS = {
  train: "train", "train.tasks": "trainTasks", train_tasks: "trainTasks", test: "test", "test.tasks": "testTasks", test_tasks: "testTasks",
  tasks: "trainTasks", method: "method", order: "order", limit: "limit", granularity: "granularity", similarity: "similarity",
  fidelity: "fidelity", seed: "seed", select: "selectPerTask", test_per_task: "testPerTask", w_min: "wMin", w_avg: "wAvg",
  rounds: "roundsTo", representation: "model", "representation.max_length": "maxLength", "representation.precision": "precision",
  "representation.kind": "kind", "representation.pooling": "pooling",
};

/**
 * The form of an arrangement that is there, to change it.
 * @param {any} spec
 * @returns {typeof BLANK}
 */
export function formOf(spec) {
  const text = (value) => (value === null || value === undefined ? "" : String(value));
  const represented = spec.representation ?? {};
  return {
    ...BLANK,
    train: spec.train.dataset, trainTasks: (spec.train.tasks ?? []).join(", "),
    test: spec.test.dataset, testTasks: (spec.test.tasks ?? []).join(", "),
    method: spec.method, order: spec.order ?? "nft", limit: text(spec.limit), granularity: spec.granularity,
    similarity: spec.similarity, fidelity: spec.fidelity, seed: text(spec.seed),
    selectHow: spec.select?.how ?? "", selectPerTask: text(spec.select?.per_task ?? BLANK.selectPerTask),
    testPerTask: text(spec.test_per_task), wMin: text(spec.w_min), wAvg: text(spec.w_avg),
    roundsFrom: text(spec.rounds?.[0]), roundsTo: text(spec.rounds?.[1]),
    hasRepresentation: spec.representation !== null, kind: represented.kind ?? BLANK.kind, model: represented.model ?? "",
    text: represented.text ?? BLANK.text, precision: represented.precision ?? BLANK.precision,
    maxLength: text(represented.max_length), pooling: represented.pooling ?? BLANK.pooling,
    other: spec.representation && !KINDS.some(([kind]) => kind === represented.kind) ? represented : null,
  };
}

/**
 * The body of POST /arrangements: only what fits the method. What isn't a number goes as it is, for the API to refuse.
 * @param {typeof BLANK} form
 * @returns {object}
 */
export function specOf(form) {
  const orders = ordersOf(form.method).map(([id]) => id);
  const order = orders.includes(form.order) ? form.order : (orders[0] ?? null);
  const select = form.selectHow === "" ? null : { how: form.selectHow, per_task: numberOf(form.selectPerTask) };
  const spec = { train: sideOf(form.train, form.trainTasks), test: sideOf(form.test, form.testTasks), method: form.method };
  if (order !== null) spec.order = order;
  if (select !== null) spec.select = select;
  setNumber(spec, "limit", form.limit);
  setNumber(spec, "test_per_task", form.testPerTask);
  spec.similarity = form.similarity;
  spec.fidelity = form.fidelity;
  if (form.method === "wsd") {
    spec.granularity = form.granularity;
    setNumber(spec, "w_min", form.wMin);
    spec.w_avg = form.wAvg.trim() === "auto" ? "auto" : numberOf(form.wAvg);
  }
  if (form.method === "tma" && (form.roundsFrom !== "" || form.roundsTo !== "")) {
    spec.rounds = [numberOf(form.roundsFrom || "0"), numberOf(form.roundsTo)];
  }
  if (isSeeded({ method: form.method, order, select })) setNumber(spec, "seed", form.seed);
  if (form.hasRepresentation || (needsEmbeddings({ method: form.method, select }) && isRepresented(form))) spec.representation = representationOf(form);
  return spec;
}

/** Whether anything of the representation isn't as the API would choose it. */
function isRepresented(form) {
  return ["kind", "model", "text", "precision", "maxLength"].some((name) => form[name] !== BLANK[name]);
}

function representationOf(form) {
  if (form.other !== null && form.kind === form.other.kind) return form.other;
  const found = { kind: form.kind, text: form.text, precision: form.precision };
  if (form.model.trim() !== "") found.model = form.model.trim();
  if (form.kind === "causal-lm") found.pooling = form.pooling;
  setNumber(found, "max_length", form.maxLength);
  return found;
}

function sideOf(dataset, tasks) {
  const names = tasks.split(",").map((each) => each.trim()).filter(Boolean);
  return names.length ? { dataset, tasks: names } : { dataset };
}

function setNumber(target, name, text) {
  if (text.trim() !== "") target[name] = numberOf(text);
}

function numberOf(text) {
  const value = Number(text.trim());
  return text.trim() === "" || Number.isNaN(value) ? text.trim() : value;
}


