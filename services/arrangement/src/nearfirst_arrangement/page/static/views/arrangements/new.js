/** The form for a new arrangement. */
import { Json } from "../../components/basics.js";
import { fieldErrors } from "../../components/form.js";
import { Panel, View } from "../../components/layout.js";
import { Await, ProblemNotice } from "../../components/states.js";
import { announce } from "../../core/announce.js";
import { getJson, postJson } from "../../core/api.js";
import { useAction, useLoaded } from "../../core/data.js";
import { goTo, useRoute } from "../../core/router.js";
import { html, useEffect, useRef, useState } from "../../core/ui.js";
import { DataFields, MethodFields, RepresentationFields, RuleFields } from "./fields.js";
import { methodOf, needsEmbeddings, title } from "./methods.js";
import { API_FIELDS, BLANK, formOf, specOf } from "./spec.js";

/** The form; `?train=&test=` fill in datasets, `?like=` takes the settings of an arrangement. */
export function NewArrangement() {
  const { query } = useRoute();
  const load = async (signal) => (query.like ? formOf((await getJson(`/arrangements/${encodeURIComponent(query.like)}`, {}, signal)).spec) : BLANK);
  const loaded = useLoaded(load, [query.like]);
  return html`<${View} title="New arrangement" crumbs=${[["Arrangements", "/arrangements"]]} hint="In which order is a dataset trained on? Each order is computed once, and can be trained on often.">
    <${Await} of=${loaded} isBlock>${(form) => html`<${Form} given=${{ ...form, ...chosen(query) }} />`}<//>
  <//>`;
}

function chosen({ train, test }) {
  return { ...(train ? { train } : {}), ...(test ? { test } : {}) };
}

function Form({ given }) {
  const [form, setForm] = useState(given);
  const element = useRef(null);
  const set = (name) => (value) => setForm((old) => ({ ...old, [name]: value }));
  const spec = specOf(form);
  const action = useAction(async () => {
    const accepted = await postJson("/arrangements", spec);
    announce(`${title(spec)} is queued.`);
    goTo(`/arrangements/${accepted.id}`);
  });
  const errors = errorsOf(action.problem);
  useEffect(() => {
    if (action.problem) element.current?.querySelector('[aria-invalid="true"]')?.focus();
  }, [action.problem]);
  const isReady = form.train !== "" && form.test !== "";
  const submit = (event) => {
    event.preventDefault();
    if (isReady) action.run();
  };
  const part = { form, set, errors };
  return html`<${Panel} title=${title(spec)} hint=${methodOf(form.method).means}>
    <form class="form" ref=${element} onSubmit=${submit} noValidate>
      <${DataFields} ...${part} />
      <${MethodFields} ...${part} />
      <div class="form-section"><h3>Rules</h3><${RuleFields} ...${part} /></div>
      <div class="form-section"><h3>Similarity comes from</h3><${RepresentationFields} ...${part} isNeeded=${needsEmbeddings(spec)} /></div>
      ${errors[""] ? html`<${ProblemNotice} problem=${action.problem} />` : null}
      <div class="form-foot">
        ${isReady ? null : html`<span class="quiet">Choose both datasets first.</span>`}
        <button class="button primary" disabled=${!isReady || action.isBusy}>${action.isBusy ? "One moment…" : "Arrange"}</button>
      </div>
      <details class="chart-note"><summary>What is sent</summary><${Json} value=${spec} label="Body of POST /arrangements" /></details>
    </form>
  <//>`;
}

/** What the API says of its fields, at the fields of this form. */
function errorsOf(problem) {
  const found = {};
  for (const [name, text] of Object.entries(fieldErrors(problem, Object.keys(API_FIELDS)))) found[API_FIELDS[name] ?? ""] = text;
  return found;
}
