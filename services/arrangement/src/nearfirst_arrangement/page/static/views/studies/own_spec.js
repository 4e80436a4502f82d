/** A spec of one's own: pasted or from a file, with what is wrong with it at its lines. */
import { Field } from "../../components/fields.js";
import { Panel } from "../../components/layout.js";
import { html } from "../../core/ui.js";

const EXAMPLE = `name: my study
question: Which order first?
train: ds_...          # ids of datasets that are registered
test: ds_...
arrangements:
  - {label: nearest first, method: tma, order: nft}
  - {label: random, method: random}
baseline: random
seeds: [0, 1, 2]
training:
  model: {name_or_path: /models/my-model}
  max_steps: 200
  checkpoint: {weights_every: 20}
`;

/** @param {{text: string, onText: (text: string) => void, problem: any}} props */
export function OwnSpec({ text, onText, problem }) {
  const upload = async (event) => {
    const [file] = event.currentTarget.files;
    if (file) onText(await file.text());
  };
  const hint = "YAML or JSON: the body of POST /studies, or a preset file.";
  return html`<${Panel} title="Spec">
    <div class="form-stack">
      <${Field} label="Spec" hint=${hint} error=${problem ? "Something in it can't be; see below." : null}>
        ${(attributes) => html`<textarea class="input mono" ...${attributes} value=${text} spellcheck="false" placeholder=${EXAMPLE}
          onInput=${(event) => onText(event.currentTarget.value)}></textarea>`}
      <//>
      <div class="actions">
        <label class="field"><span>Or from a file</span><input class="input" type="file" accept=".yaml,.yml,.json" onChange=${upload} /></label>
        ${text ? null : html`<button type="button" class="button small" onClick=${() => onText(EXAMPLE)}>Begin with an example</button>`}
      </div>
      ${problem ? html`<${Lines} text=${text} problem=${problem} />` : null}
    </div>
  <//>`;
}

/** The lines of the text that the problem is about. */
function Lines({ text, problem }) {
  const found = (problem.errors ?? []).map(({ field, wanted }) => ({ field, wanted, line: lineOf(text, field, wanted) })).filter(({ line }) => line !== null);
  if (found.length === 0) return null;
  return html`<ul class="field-list">${found.map(({ field, wanted, line }) => html`<li key=${field + wanted}>line ${line}: <code>${field === WHOLE ? wanted.split(":")[0] : field}</code></li>`)}</ul>`;
}

const WHOLE = "(whole)"; // the API's name for a rule that several fields break together

/**
 * The line of a field in a text of YAML or JSON; null when it isn't there.
 * @param {string} text
 * @param {string} field dotted: `training.max_steps`
 * @param {string} wanted what is said of it, which begins with a field where the whole is wrong
 * @returns {number | null}
 */
export function lineOf(text, field, wanted) {
  const path = (field === WHOLE ? wanted.split(":")[0] : field).split(".").filter((part) => !/^\d+$/.test(part));
  const name = path.at(-1)?.replaceAll(/[^\w-]/g, "");
  if (!name) return null;
  const at = text.split("\n").findIndex((line) => new RegExp(`(^|[\\s{,"'])${name}["']?\\s*:`).test(line));
  return at === -1 ? null : at + 1;
}

/** What is wrong, field by field. @param {{problem: any}} props */
export function SpecProblem({ problem }) {
  if (!problem) return null;
  const errors = problem.errors ?? [];
  return html`<div class="notice bad" role="alert">
    <strong>${problem.title}</strong>
    ${errors.length
      ? html`<ul>${errors.map(({ field, wanted }) => html`<li key=${field + wanted}>${field === WHOLE ? null : html`<code>${field}</code>: `}${wanted}</li>`)}</ul>`
      : html`<span>${problem.message}</span>`}
  </div>`;
}
