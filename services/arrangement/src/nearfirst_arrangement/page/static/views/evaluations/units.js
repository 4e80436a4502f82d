/** What is measured of each checkpoint, and how far that is: a row for each checkpoint, a column for each kind. */
import { Panel } from "../../components/layout.js";
import { Await, Empty } from "../../components/states.js";
import { getJson } from "../../core/api.js";
import { useLiveReload, useLoaded } from "../../core/data.js";
import { count, words } from "../../core/format.js";
import { html, useState } from "../../core/ui.js";

const KINDS = ["loss", "generation", "text_metrics", "reward"];
const NAMES = { loss: "Loss", generation: "Answers", text_metrics: "Text metrics", reward: "Reward" };
const SHOWN = 12;

/** @param {{evaluation: any, path: string}} props */
export function UnitsPanel({ evaluation, path }) {
  const [isWhole, setWhole] = useState(false);
  const units = useLoaded((signal) => allUnits(path, signal), [path]);
  useLiveReload(units.reload, (event) => event.run_id === evaluation.id, 3000);
  const empty = html`<${Empty} title="No checkpoint yet"><span>They join as the training writes them.</span><//>`;
  return html`<${Panel} title="Units" hint="One checkpoint and what is measured of it at once." isFlush>
    <${Await} of=${units} empty=${empty} lines=${4}>
      ${(found) => {
        const steps = [...new Set(found.map((unit) => unit.step))];
        return html`
          <${Matrix} units=${found} steps=${isWhole ? steps : steps.slice(-SHOWN)} />
          <${Failures} units=${found} />
          ${steps.length > SHOWN
            ? html`<div class="list-foot"><span>${isWhole ? "all" : `the last ${SHOWN} of`} ${count(steps.length)} checkpoints</span>
                <button type="button" class="button small" onClick=${() => setWhole(!isWhole)}>${isWhole ? "Show fewer" : "Show all"}</button></div>`
            : null}
        `;
      }}
    <//>
  <//>`;
}

async function allUnits(path, signal) {
  const items = [];
  let cursor;
  do {
    const page = await getJson(`${path}/units`, { cursor, limit: 10_000 }, signal);
    items.push(...page.items);
    cursor = page.next_cursor;
  } while (cursor !== null);
  return items;
}

function Matrix({ units, steps }) {
  const kinds = KINDS.filter((kind) => units.some((unit) => unit.kind === kind));
  const byPlace = new Map(units.map((unit) => [`${unit.step} ${unit.kind}`, unit]));
  return html`<div class="table-scroll" tabindex="0" role="region" aria-label="Units of each checkpoint">
    <table class="table compact unit-matrix">
      <caption class="visually-hidden">State of each unit</caption>
      <thead><tr><th scope="col" class="number">Step</th>${kinds.map((kind) => html`<th scope="col" key=${kind}>${NAMES[kind]}</th>`)}</tr></thead>
      <tbody>
        ${steps.map((step) => html`<tr key=${step}><th scope="row" class="number">${count(step)}</th>
          ${kinds.map((kind) => html`<td key=${kind}><${Unit} unit=${byPlace.get(`${step} ${kind}`)} /></td>`)}</tr>`)}
      </tbody>
    </table>
  </div>`;
}

function Unit({ unit }) {
  if (!unit) return null;
  const { progress } = unit;
  const told = unit.state === "running" && progress?.total ? `${count(progress.done)} of ${count(progress.total)}` : words(unit.state);
  return html`<span class=${`badge ${unit.state}`} title=${unit.error?.detail ?? `${unit.id}, attempt ${unit.attempt}`}>${told}</span>`;
}

function Failures({ units }) {
  const failed = units.filter((unit) => unit.state === "failed" && unit.error);
  const reasons = [...new Map(failed.map((unit) => [unit.error.detail, unit])).values()].slice(0, 5);
  if (reasons.length === 0) return null;
  return html`<div class="panel-body form-stack">
    ${reasons.map((unit) => html`<div class="notice bad" key=${unit.id}><strong>Step ${count(unit.step)}, ${NAMES[unit.kind].toLowerCase()}</strong><span>${unit.error.detail}</span></div>`)}
  </div>`;
}
