/** The parts of the form for an arrangement. */
import { SelectField, TextField } from "../../components/form.js";
import { useJson } from "../../core/data.js";
import { count } from "../../core/format.js";
import { html } from "../../core/ui.js";
import { METHODS, isSeeded, needsEmbeddings, orderMeans, ordersOf } from "./methods.js";
import { KINDS } from "./spec.js";

const MOST_DATASETS = 200;
const HOWS = [["", "All rows"], ["random", "Some, drawn at random"], ["first", "The first ones"], ["polar", "Half the nearest, half the farthest"], ["uniform", "Evenly over near and far"]];
const TEXTS = [["first_turn", "The first question and answer"], ["all_turns", "All turns"], ["instruction", "The first question alone"]];
const ENCODERS = [["sentence-transformers/all-MiniLM-L6-v2", "the default"], ["package:all-MiniLM-L6-v2", "the same weights, from a Python package"]];

/**
 * @typedef {{form: typeof import("./spec.js").BLANK, set: (name: string) => (value: any) => void, errors: Record<string, string>}} Part
 * `set`: what changes a field
 */

/** The two datasets. @param {Part} props */
export function DataFields({ form, set, errors }) {
  const loaded = useJson("/datasets", { order: "newest", limit: MOST_DATASETS });
  const offered = (loaded.data?.items ?? []).map((each) => [each.id, `${each.name} (${count(each.num_examples)} rows)`]);
  const options = (chosen) => [["", loaded.isLoading ? "Loading…" : "Choose one"], ...offered, ...(chosen && !offered.some(([id]) => id === chosen) ? [[chosen, chosen]] : [])];
  return html`<div class="form-grid two">
    <${SelectField} label="Train on" value=${form.train} options=${options(form.train)} onChange=${set("train")} error=${errors.train} hint="The rows that are put into order." />
    <${SelectField} label="Test set" value=${form.test} options=${options(form.test)} onChange=${set("test")} error=${errors.test} hint="What the rows are compared with; its answers are never trained on." />
    <${TextField} label="Only these train tasks" value=${form.trainTasks} onChange=${set("trainTasks")} error=${errors.trainTasks} hint="Separated by commas. Empty: all." />
    <${TextField} label="Only these test tasks" value=${form.testTasks} onChange=${set("testTasks")} error=${errors.testTasks} hint="Separated by commas. Empty: all." />
  </div>`;
}

/** The method as cards. @param {Part} props */
export function MethodFields({ form, set, errors }) {
  return html`<fieldset class="methods">
    <legend>Method</legend>
    ${METHODS.map((method) => html`<label class="method" key=${method.id}>
      <input type="radio" name="method" value=${method.id} checked=${form.method === method.id} onChange=${() => set("method")(method.id)} />
      <strong>${method.name}</strong><span>${method.means}</span>
    </label>`)}
    ${errors.method ? html`<span class="field-error">${errors.method}</span>` : null}
  </fieldset>`;
}

/** What fits the method. @param {Part} props */
export function RuleFields({ form, set, errors }) {
  const orders = ordersOf(form.method);
  const order = orders.some(([id]) => id === form.order) ? form.order : orders[0]?.[0];
  const select = form.selectHow === "" ? null : { how: form.selectHow };
  const hasSimilarity = needsEmbeddings({ method: form.method, select });
  return html`<div class="form-grid">
    ${orders.length ? html`<${SelectField} label="Order" value=${order} options=${orders} onChange=${set("order")} error=${errors.order} hint=${orderMeans(order)} />` : null}
    <${TextField} label="Limit" type="number" min="1" value=${form.limit} onChange=${set("limit")} error=${errors.limit} placeholder="all rows" hint="Rows to keep, from the first on." />
    ${hasSimilarity
      ? html`<${SelectField} label="Similarity" value=${form.similarity} onChange=${set("similarity")} error=${errors.similarity} options=${[["cosine", "Cosine"], ["euclidean", "Euclidean"]]} />`
      : null}
    ${form.method === "wsd"
      ? html`
          <${SelectField} label="What is ordered" value=${form.granularity} onChange=${set("granularity")} error=${errors.granularity} options=${[["fine", "Rows"], ["coarse", "Tasks, with their rows"]]} />
          <${TextField} label="Weight of the nearest test row" type="number" min="0" step="any" value=${form.wMin} onChange=${set("wMin")} error=${errors.wMin} />
          <${TextField} label="Weight of the mean distance" value=${form.wAvg} onChange=${set("wAvg")} error=${errors.wAvg} hint=${html`A number, or <code>auto</code>: balanced.`} />`
      : null}
    ${form.method === "tma" && !["max", "min"].includes(order)
      ? html`
          <${TextField} label="From round" type="number" min="0" value=${form.roundsFrom} onChange=${set("roundsFrom")} placeholder="the first" hint="Rounds count from 0." />
          <${TextField} label="Up to round" type="number" min="1" value=${form.roundsTo} onChange=${set("roundsTo")} error=${errors.roundsTo} placeholder="the last" hint="Not itself." />`
      : null}
    <${SelectField} label="Of each train task" value=${form.selectHow} options=${HOWS} onChange=${set("selectHow")} hint="Before anything is ordered." />
    ${form.selectHow === "" ? null : html`<${TextField} label="Rows of each task" type="number" min="1" value=${form.selectPerTask} onChange=${set("selectPerTask")} error=${errors.selectPerTask} />`}
    <${TextField} label="Rows of each test task" type="number" min="1" value=${form.testPerTask} onChange=${set("testPerTask")} error=${errors.testPerTask} placeholder="all" hint="The first ones." />
    ${isSeeded({ method: form.method, order, select }) ? html`<${TextField} label="Seed" type="number" min="0" value=${form.seed} onChange=${set("seed")} error=${errors.seed} />` : null}
    <${SelectField} label="Fidelity" value=${form.fidelity} onChange=${set("fidelity")} error=${errors.fidelity} options=${[["corrected", "As the paper says"], ["paper", "As the paper's code did"]]} />
  </div>`;
}

/** What turns rows into vectors. @param {Part & {isNeeded: boolean}} props */
export function RepresentationFields({ form, set, errors, isNeeded }) {
  if (!isNeeded && !form.hasRepresentation) {
    return html`<label class="check"><input type="checkbox" checked=${false} onChange=${() => set("hasRepresentation")(true)} />
      Measure similarities for the report all the same</label>`;
  }
  const isOther = form.other !== null && form.kind === form.other.kind;
  const kinds = form.other === null ? KINDS : [...KINDS, [form.other.kind, `${form.other.kind}, as it was`]];
  return html`
    ${isNeeded ? null : html`<label class="check"><input type="checkbox" checked onChange=${() => set("hasRepresentation")(false)} />Measure similarities for the report all the same</label>`}
    <div class="form-grid">
      <${SelectField} label="Kind" value=${form.kind} options=${kinds} onChange=${set("kind")} error=${errors.kind} />
      ${isOther ? null : html`<${EncoderFields} form=${form} set=${set} errors=${errors} />`}
    </div>`;
}

/** An encoder's own settings. @param {Part} props */
function EncoderFields({ form, set, errors }) {
  return html`
    <${TextField} label="Model" value=${form.model} onChange=${set("model")} error=${errors.model} suggestions=${ENCODERS} placeholder=${ENCODERS[0][0]}
      hint=${html`A hub id, <code>package:NAME</code>, or a folder on the server.`} />
    <${SelectField} label="Text" value=${form.text} options=${TEXTS} onChange=${set("text")} />
    <${TextField} label="Tokens" type="number" min="1" value=${form.maxLength} onChange=${set("maxLength")} error=${errors.maxLength} placeholder="the model's limit" hint="Longer texts are cut." />
    <${SelectField} label="Precision" value=${form.precision} onChange=${set("precision")} error=${errors.precision} options=${[["exact", "Exact: fp32"], ["fast", "Fast: bf16"]]} />
    ${form.kind === "causal-lm" ? html`<${SelectField} label="Pooling" value=${form.pooling} onChange=${set("pooling")} error=${errors.pooling} options=${[["weighted_mean", "Weighted mean"], ["mean", "Mean"]]} />` : null}`;
}
