/** The fields of a new training. */
import { SelectField, TextField } from "../../components/form.js";
import { count, short } from "../../core/format.js";
import { html } from "../../core/ui.js";
import { PAPER_MODEL } from "./new_spec.js";

/**
 * @param {{form: import("./new_spec.js").TrainForm, set: (name: string) => (value: string) => void, errors: Record<string, string>,
 *   choices: {datasets: any[], models: any[]}}} props
 * `set`: what changes a field
 */
export function TrainFields({ form, set, errors, choices }) {
  const models = [...choices.models.map(modelChoice), [PAPER_MODEL, "the paper's, from the hub"]];
  const tests = [["", "None"], ...choices.datasets.map((each) => [each.id, `${each.name} (${count(each.num_examples)} rows)`])];
  const numbers = { type: "number", min: "1" };
  return html`
    <div class="form-grid two">
      <${TextField} label="Model" value=${form.model} onChange=${set("model")} error=${errors.model} suggestions=${models} placeholder=${PAPER_MODEL}
        hint=${choices.models.length ? "A folder on the server, or a hub id." : "A hub id. The server's own model folders are empty; the quickstart study makes a tiny model there."} />
      <${SelectField} label="Its weights" value=${form.init} onChange=${set("init")} error=${errors.init} options=${[["pretrained", "As they come"], ["random", "Drawn from the seed"]]} />
    </div>
    <div class="form-section"><h3>How long, and how</h3>
      <div class="form-grid">
        <${SelectField} label="It ends after" value=${form.length} onChange=${set("length")} options=${[["steps", "so many steps"], ["epochs", "so many epochs"]]} />
        ${form.length === "steps"
          ? html`<${TextField} label="Steps" ...${numbers} value=${form.steps} onChange=${set("steps")} error=${errors.steps} />`
          : html`<${TextField} label="Epochs" ...${numbers} value=${form.epochs} onChange=${set("epochs")} error=${errors.epochs} />`}
        <${TextField} label="Rows in a step" ...${numbers} value=${form.batch} onChange=${set("batch")} error=${errors.batch} />
        <${TextField} label="Longest example" ...${numbers} value=${form.maxLength} onChange=${set("maxLength")} error=${errors.maxLength} hint="Tokens." />
        <${TextField} label="Learning rate" type="number" min="0" step="any" value=${form.lr} onChange=${set("lr")} error=${errors.lr} />
        <${SelectField} label="Precision" value=${form.precision} onChange=${set("precision")} error=${errors.precision} options=${[["fp32", "fp32"], ["bf16", "bf16"]]} />
        <${TextField} label="GPUs" type="number" min="0" value=${form.gpus} onChange=${set("gpus")} error=${errors.gpus} hint="0: on the CPU." />
        <${TextField} label="Seed" type="number" min="0" value=${form.seed} onChange=${set("seed")} error=${errors.seed} />
        <${TextField} label="Weights every" ...${numbers} value=${form.weightsEvery} onChange=${set("weightsEvery")} error=${errors.weightsEvery} placeholder="at the end" hint="Steps. Each can be evaluated." />
      </div>
    </div>
    <div class="form-section"><h3>Test loss while it trains</h3>
      <div class="form-grid two">
        <${SelectField} label="On" value=${form.test} options=${tests} onChange=${set("test")} error=${errors.test} />
        ${form.test === "" ? null : html`<${TextField} label="Every so many steps" ...${numbers} value=${form.every} onChange=${set("every")} />`}
      </div>
    </div>
  `;
}

function modelChoice({ name_or_path: path, num_parameters: parameters, has_weights: hasWeights }) {
  const size = parameters === null ? "" : `${short(parameters)} parameters`;
  return [path, [size, hasWeights ? "" : "without weights"].filter(Boolean).join(", ")];
}
