/** A preset, its scale, and the data that it is to use. */
import { Choice, Facts } from "../../components/basics.js";
import { SelectField, errorOf } from "../../components/fields.js";
import { Panel } from "../../components/layout.js";
import { Await } from "../../components/states.js";
import { useJson } from "../../core/data.js";
import { count } from "../../core/format.js";
import { link } from "../../core/router.js";
import { html } from "../../core/ui.js";
import { metricName } from "./metrics.js";

const MOST_DATASETS = 500;
const DATA_NAMES = { train: "Training data", test: "Test data" };

/** The scale of a preset that has this name; its first without one. @param {any} preset @param {string | undefined} name */
export const scaleOf = (preset, name) => preset.scales.find((each) => each.name === name) ?? preset.scales[0];

/**
 * @param {{presets: import("../../core/data.js").Loaded<any>, preset: any, scale: any, datasets: Record<string, string>,
 *   onDatasets: (datasets: Record<string, string>) => void, onChoose: (changes: object) => void, problem: any}} props
 */
export function PresetChoice({ presets, preset, scale, datasets, onDatasets, onChoose, problem }) {
  return html`<${Panel} title="Preset">
    <${Await} of=${presets} lines=${6}>
      ${({ items }) => html`<div class="form-stack">
        <fieldset class="preset-list">
          <legend class="visually-hidden">Preset</legend>
          ${items.map((each) => html`<${PresetCard} key=${each.name} preset=${each} isChosen=${each.name === preset.name} onChoose=${() => onChoose({ preset: each.name, scale: null })} />`)}
        </fieldset>
        ${preset.scales.length > 1
          ? html`<${Choice} label="Scale" value=${scale.name} options=${preset.scales.map((each) => [each.name, `${each.name} scale`])} onChoose=${(name) => onChoose({ scale: name })} />`
          : null}
        <${ScaleFacts} scale=${scale} />
        <${DatasetChoice} scale=${scale} datasets=${datasets} onDatasets=${onDatasets} problem=${problem} />
      </div>`}
    <//>
  <//>`;
}

function PresetCard({ preset, isChosen, onChoose }) {
  const first = preset.scales[0];
  return html`<label class="preset">
    <input type="radio" name="preset" value=${preset.name} checked=${isChosen} onChange=${onChoose} />
    <span class="preset-words">
      <strong>${preset.name}</strong>
      <span>${preset.question}</span>
      <span class="quiet">${first.arrangements.length === 1 ? "one order" : `${first.arrangements.length} orders`}, ${first.seeds.length} seeds, ${first.num_runs} trainings</span>
    </span>
  </label>`;
}

function ScaleFacts({ scale }) {
  return html`<${Facts} items=${[
    ["Orders", scale.arrangements.join(", ")],
    ["Trainings", count(scale.num_runs)],
    ["Steps of each", scale.max_steps === null ? "as many as the data gives" : count(scale.max_steps)],
    ["Model", scale.model ?? "a small one, from random weights, made for the data"],
    ["Runs on", scale.gpus ? `${scale.gpus} GPUs each` : "the CPU"],
    ["Measures", scale.metrics.map(metricName).join(", ")],
  ]} />`;
}

/** Which registered dataset takes the place of each of the preset's. */
function DatasetChoice({ scale, datasets, onDatasets, problem }) {
  const known = useJson("/datasets", { order: "newest", limit: MOST_DATASETS });
  const options = (known.data?.items ?? []).map((each) => [each.id, `${each.name} (${count(each.num_examples)} rows)`]);
  const lacking = scale.datasets.filter((each) => !each.is_bundled);
  return html`
    ${lacking.length
      ? html`<div class="notice wait"><strong>This scale needs data of yours</strong>
          <span>The files that it names don't come with Nearfirst. <a href=${link("/datasets")}>Register them as datasets</a>, and choose them here.</span></div>`
      : null}
    <div class="form-grid">
      ${scale.datasets.map(({ name, source, is_bundled }) => html`<${SelectField} key=${name} label=${DATA_NAMES[name] ?? `Data: ${name}`} value=${datasets[name] ?? ""} options=${options}
        none=${is_bundled ? "the bundled data" : "choose a dataset"} hint=${is_bundled ? null : `In place of ${source}`}
        error=${errorOf(problem, `datasets.${name}`)} onChoose=${(id) => onDatasets({ ...datasets, [name]: id })} />`)}
    </div>
  `;
}
