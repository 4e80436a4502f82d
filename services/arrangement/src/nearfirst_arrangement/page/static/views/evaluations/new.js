/** Submit an evaluation of a training's checkpoints. */
import { SelectField, TextField, errorOf } from "../../components/fields.js";
import { Panel, View } from "../../components/layout.js";
import { ProblemNotice } from "../../components/states.js";
import { announce } from "../../core/announce.js";
import { postJson } from "../../core/api.js";
import { useAction, useJson } from "../../core/data.js";
import { count } from "../../core/format.js";
import { goTo, useRoute } from "../../core/router.js";
import { html, useRef, useState } from "../../core/ui.js";
import { metricName } from "../studies/metrics.js";
import { METRICS, bodyOf, emptyForm, fieldNames, needsAnswers } from "./form.js";

const OFFERED = 500;

/** The form; `?train_job=` chooses a training. */
export function NewEvaluation() {
  const { query } = useRoute();
  const [form, setForm] = useState(() => ({ ...emptyForm(), train_job: query.train_job ?? "" }));
  const key = useRef(crypto.randomUUID());
  const action = useAction(async () => postJson("/evaluations", bodyOf(form), { idempotencyKey: key.current }));
  const set = (name) => (value) => {
    setForm((before) => ({ ...before, [name]: value }));
    key.current = crypto.randomUUID();
    action.forget();
  };
  const submit = async (event) => {
    event.preventDefault();
    const accepted = await action.run();
    if (accepted === undefined) return;
    announce("The evaluation is submitted.");
    goTo(`/evaluations/${accepted.id}`);
  };
  const errors = Object.fromEntries(fieldNames.map((name) => [name, errorOf(action.problem, name)]));
  errors["test.tasks"] ??= errorOf(action.problem, "tasks"); // so the API calls them where only one set has any
  const isElsewhere = action.problem && Object.values(errors).every((error) => error === null);
  const text = (name, label, given = {}) => html`<${TextField} key=${name} label=${label} value=${form[name]} onInput=${set(name)} error=${errors[name]} ...${given} />`;
  const number = (name, label, given = {}) => text(name, label, { type: "number", ...given });
  return html`<${View} title="New evaluation" crumbs=${[["Evaluations", "/evaluations"]]} hint="Checkpoints of a training that is under way are measured as they come.">
    <form class="form-stack" onSubmit=${submit} novalidate>
      <${Sources} form=${form} set=${set} errors=${errors} />
      <${Panel} title="What is measured">
        <div class="form-stack">
          <${MetricChecks} chosen=${form.metrics} onChoose=${set("metrics")} error=${errors.metrics} />
          <div class="form-grid">
            ${number("every", "Checkpoints at multiples of", { hint: "Steps; empty: all checkpoints.", min: 1, step: "1" })}
            ${number("num_examples", "Test examples", { hint: "A draw of so many; empty: all.", min: 1, step: "1" })}
            ${number("seed", "Seed of the draw", { min: 0, step: "1" })}
            <${SelectField} label="Precision of the loss" value=${form.precision} options=${[["fp32", "fp32"], ["bf16", "bf16"]]} onChoose=${set("precision")} error=${errors.precision} />
            <${SelectField} label="Fidelity" value=${form.fidelity} options=${[["corrected", "corrected"], ["paper", "paper"]]} onChoose=${set("fidelity")} error=${errors.fidelity}
              hint="paper: sums up as the paper's code did." />
          </div>
        </div>
      <//>
      ${needsAnswers(form)
        ? html`<${Panel} title="Answers" hint="What the text metrics and the reward are made of. Empty fields are left as they are by default.">
            <div class="form-grid">
              ${number("generation.max_new_tokens", "Longest answer, in tokens", { placeholder: "128", min: 1, step: "1" })}
              ${number("generation.temperature", "Temperature", { placeholder: "0: greedy", min: 0 })}
              ${number("generation.top_p", "Top p", { placeholder: "1", min: 0 })}
              ${number("generation.repetition_penalty", "Repetition penalty", { placeholder: "1", min: 0 })}
              ${number("generation.seed", "Seed of sampling", { hint: "Wanted above temperature 0.", min: 0, step: "1" })}
              ${number("generation.batch_size", "Prompts at once", { placeholder: "32", min: 1, step: "1" })}
              ${form.metrics.includes("reward") ? text("reward.model", "Reward model", { hint: "A folder or a hub id; empty: the deployment's own." }) : null}
            </div>
          <//>`
        : null}
      ${isElsewhere ? html`<${ProblemNotice} problem=${action.problem} />` : null}
      <div class="actions"><button type="submit" class="button primary" disabled=${action.isBusy}>${action.isBusy ? "Submitting…" : "Measure"}</button></div>
    </form>
  <//>`;
}

/** Whose checkpoints, on which test set. */
function Sources({ form, set, errors }) {
  const jobs = useJson("/train-jobs", { order: "newest", limit: OFFERED });
  const datasets = useJson("/datasets", { order: "newest", limit: OFFERED });
  const known = (jobs.data?.items ?? []).map((job) => [job.id, `${job.id}, ${job.state}, seed ${job.spec.seed}`]);
  const isUnknown = form.train_job !== "" && !known.some(([id]) => id === form.train_job);
  return html`<${Panel} title="Of what, on what">
    <div class="form-grid">
      <${SelectField} label="Training" value=${form.train_job} options=${isUnknown ? [[form.train_job, form.train_job], ...known] : known} none="choose a training"
        onChoose=${set("train_job")} error=${errors.train_job} />
      <${SelectField} label="Test set" value=${form["test.dataset"]} options=${(datasets.data?.items ?? []).map((each) => [each.id, `${each.name} (${count(each.num_examples)} rows)`])}
        none="choose a dataset" onChoose=${set("test.dataset")} error=${errors["test.dataset"]} />
      <${TextField} label="Tasks" value=${form["test.tasks"]} onInput=${set("test.tasks")} error=${errors["test.tasks"]} hint="With commas between; empty: all." />
    </div>
  <//>`;
}

function MetricChecks({ chosen, onChoose, error }) {
  const toggle = (metric) => onChoose(METRICS.filter((each) => (each === metric) !== chosen.includes(each)));
  return html`<fieldset class="check-list">
    <legend>Metrics</legend>
    ${METRICS.map((metric) => html`<label class="check" key=${metric}>
      <input type="checkbox" checked=${chosen.includes(metric)} onChange=${() => toggle(metric)} />${metricName(metric)}</label>`)}
    ${error ? html`<strong class="field-error">${error}</strong>` : null}
  </fieldset>`;
}
