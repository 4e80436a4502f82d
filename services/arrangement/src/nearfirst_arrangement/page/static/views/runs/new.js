/** The form for a new training: what it takes is asked for first, then it is started. */
import { Choice } from "../../components/basics.js";
import { Field, fieldErrors } from "../../components/form.js";
import { Panel, View } from "../../components/layout.js";
import { RunLink } from "../../components/run_link.js";
import { Await, Empty, ProblemNotice } from "../../components/states.js";
import { announce } from "../../core/announce.js";
import { getJson, postJson } from "../../core/api.js";
import { useAction, useLoaded } from "../../core/data.js";
import { goTo, link, useRoute } from "../../core/router.js";
import { html, useEffect, useMemo, useRef, useState } from "../../core/ui.js";
import { title } from "../arrangements/methods.js";
import { DatasetName } from "../datasets/names.js";
import { EstimatePanel } from "./estimate.js";
import { TrainFields } from "./new_fields.js";
import { API_FIELDS, PRESETS, trainSpecOf } from "./new_spec.js";

const KINDS = [["tiny", "A tiny model, on the CPU"], ["paper", "As in the paper"], ["own", "Your own JSON"]];
const MOST_DATASETS = 200;

/** The form; `?arrangement=` or `?dataset=` says what is trained on. */
export function NewRun() {
  const { query } = useRoute();
  const loaded = useLoaded((signal) => readChoices(query, signal), [query.arrangement, query.dataset]);
  const view = (children) => html`<${View} title="New training" crumbs=${[["Runs", "/runs"]]} hint=${html`<${Source} query=${query} arrangement=${loaded.data?.arrangement} />`}>${children}<//>`;
  if (!query.arrangement && !query.dataset) {
    return view(html`<section class="panel"><${Empty} title="Trained on what?">
      <span>Choose an arrangement and its "Train on it".</span><a class="button" href=${link("/arrangements")}>Arrangements</a>
    <//></section>`);
  }
  return view(html`<${Await} of=${loaded} isBlock>${(choices) => html`<${Form} query=${query} choices=${choices} />`}<//>`);
}

function Source({ query, arrangement }) {
  if (query.dataset) return html`On <${DatasetName} id=${query.dataset} />, in its own order`;
  if (!query.arrangement) return "A training consumes its rows in exactly the order of an arrangement.";
  return html`On <${RunLink} kind="arrangement" id=${query.arrangement} />${arrangement ? `: ${title(arrangement.spec)}` : null}, in exactly this order`;
}

async function readChoices({ arrangement }, signal) {
  const [datasets, models, found] = await Promise.all([
    getJson("/datasets", { order: "newest", limit: MOST_DATASETS }, signal),
    getJson("/models", {}, signal),
    arrangement ? getJson(`/arrangements/${encodeURIComponent(arrangement)}`, {}, signal) : null,
  ]);
  return { datasets: datasets.items, models: models.items, arrangement: found };
}

function filledIn(preset, { models, arrangement }) {
  const form = { ...PRESETS[preset], test: arrangement?.spec.test.dataset ?? "" };
  const smallest = [...models].sort((a, b) => (a.num_parameters ?? Infinity) - (b.num_parameters ?? Infinity))[0];
  return preset === "tiny" && smallest ? { ...form, model: smallest.name_or_path } : form;
}

function Form({ query, choices }) {
  const [kind, setKind] = useState("tiny");
  const [form, setForm] = useState(() => filledIn("tiny", choices));
  const [own, setOwn] = useState("");
  const [checked, setChecked] = useState(null); // the body that was estimated, and its estimate
  const element = useRef(null);
  const source = query.arrangement ? { arrangement: query.arrangement } : { dataset: query.dataset };
  const body = useMemo(() => bodyOf(kind, form, own, source), [kind, form, own, query.arrangement, query.dataset]);
  const sent = body.spec && JSON.stringify(body.spec);
  const check = useAction(async () => setChecked({ sent, estimate: await postJson("/train-jobs", body.spec, { query: { dry_run: true } }) }));
  const start = useAction(async () => {
    const accepted = await postJson("/train-jobs", body.spec);
    announce("The training is queued.");
    goTo(`/runs/${accepted.id}`);
  });
  const problem = start.problem ?? check.problem;
  const errors = errorsOf(problem);
  useEffect(() => {
    if (problem) element.current?.querySelector('[aria-invalid="true"]')?.focus();
  }, [problem]);
  const isChecked = checked !== null && checked.sent === sent;
  const choose = (next) => {
    if (next === "own") setOwn(JSON.stringify(body.spec ?? {}, null, 2));
    else setForm(filledIn(next, choices));
    start.forget();
    check.forget();
    setKind(next);
  };
  const submit = (event) => {
    event.preventDefault();
    if (body.spec) (isChecked ? start : check).run();
  };
  const isBusy = check.isBusy || start.isBusy;
  return html`
    <${Panel} title="What is trained" actions=${html`<${Choice} label="Begin with" options=${KINDS} value=${kind} onChoose=${choose} />`}>
      <form class="form" ref=${element} onSubmit=${submit} noValidate>
        ${kind === "own"
          ? html`<${Field} label="Body of POST /train-jobs" error=${body.error}>
              ${(given) => html`<textarea class="input" rows="16" spellcheck=${false} ...${given} value=${own} onInput=${(event) => setOwn(event.currentTarget.value)}></textarea>`}
            <//>`
          : html`<${TrainFields} form=${form} set=${(name) => (value) => setForm((old) => ({ ...old, [name]: value }))} errors=${errors} choices=${choices} />`}
        ${problem && (errors[""] || errors.source || kind === "own") ? html`<${ProblemNotice} problem=${problem} />` : null}
        <div class="form-foot">
          ${isChecked ? null : html`<span class="quiet">What it takes is estimated first; nothing is started yet.</span>`}
          <button class=${`button ${isChecked ? "" : "primary"}`} type=${isChecked ? "button" : "submit"} disabled=${isBusy || !body.spec} onClick=${isChecked ? check.run : undefined}>
            ${check.isBusy ? "Counting…" : isChecked ? "Estimate again" : "What does it take?"}
          </button>
          ${isChecked ? html`<button class="button primary" disabled=${isBusy}>${start.isBusy ? "One moment…" : "Start the training"}</button>` : null}
        </div>
      </form>
    <//>
    ${checked ? html`<${EstimatePanel} estimate=${checked.estimate} isOld=${!isChecked} />` : null}
  `;
}

function bodyOf(kind, form, own, source) {
  if (kind !== "own") return { spec: trainSpecOf(form, kind, source) };
  try {
    return { spec: JSON.parse(own) };
  } catch (error) {
    return { spec: null, error: `This isn't JSON: ${error.message}` };
  }
}

function errorsOf(problem) {
  const found = {};
  for (const [name, text] of Object.entries(fieldErrors(problem, Object.keys(API_FIELDS)))) found[API_FIELDS[name] ?? ""] = text;
  return found;
}
