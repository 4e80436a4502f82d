/** Curves of several trainings over each other. */
import { Choice } from "../../components/basics.js";
import { Chart } from "../../components/chart.js";
import { Icon } from "../../components/icon.js";
import { Panel } from "../../components/layout.js";
import { Await } from "../../components/states.js";
import { getJson } from "../../core/api.js";
import { slotsOf } from "../../core/colours.js";
import { useLiveReload, useLoaded } from "../../core/data.js";
import { link, setQuery, useRoute } from "../../core/router.js";
import { html, useMemo } from "../../core/ui.js";
import { loadCurves } from "./metrics.js";

/** Most runs in one chart: as many as there are colours. */
export const MOST_COMPARED = 8;

const DRAWN = [["test_loss", "Test loss"], ["train_loss", "Training loss"], ["tokens_per_s", "Tokens/s"], ["lr", "Learning rate"]];

/** The ids that the address names to be compared. @param {Record<string, string>} query @returns {string[]} */
export function comparedIds(query) {
  return [...new Set((query.compare ?? "").split(",").filter(Boolean))].slice(0, MOST_COMPARED);
}

/** @param {{ids: string[], onRemove: (id: string) => void}} props */
export function ComparePanel({ ids, onRemove }) {
  const { query } = useRoute();
  const drawn = DRAWN.find(([name]) => name === query.chart) ?? DRAWN[0];
  const loaded = useLoaded((signal) => Promise.all(ids.map((id) => loadOne(id, drawn[0], signal))), [ids, drawn[0]]);
  useLiveReload(loaded.reload, (event) => ids.includes(event.run_id), 3000);
  const choice = html`<${Choice} label="What is drawn" value=${drawn[0]} options=${DRAWN} onChoose=${(name) => setQuery({ chart: name === DRAWN[0][0] ? null : name })} />`;
  return html`<${Panel} title=${`${drawn[1]} of ${ids.length === 1 ? "one run" : `${ids.length} runs`}`} actions=${choice}>
    <${Await} of=${loaded} isBlock>
      ${(runs) => html`<${Overlay} runs=${runs} name=${drawn[0]} words=${drawn[1]} />`}
    <//>
    <ul class="chips">
      ${ids.map((id) => html`<li key=${id}><a href=${link(`/runs/${id}`)}><code>${id}</code></a>
        <button type="button" class="button plain small square" aria-label=${`Take ${id} out of the comparison`} onClick=${() => onRemove(id)}><${Icon} name="close" /></button></li>`)}
    </ul>
  <//>`;
}

/** A run that is gone doesn't hide the others. */
async function loadOne(id, name, signal) {
  try {
    const [job, curves] = await Promise.all([
      getJson(`/train-jobs/${encodeURIComponent(id)}`, {}, signal),
      loadCurves(id, [name], signal),
    ]);
    return { id, job, curve: curves.get(name) };
  } catch (problem) {
    if (problem.status !== 404) throw problem;
    return { id, job: null, curve: { x: [], y: [] } };
  }
}

function Overlay({ runs, name, words }) {
  const series = useMemo(() => {
    const slots = slotsOf(runs.map((run) => run.id));
    return runs.map(({ id, job, curve }) => ({ key: id, label: job ? `${id}, seed ${job.spec.seed}` : id, ...curve, slot: slots.get(id) }));
  }, [runs]);
  const without = runs.filter((run) => run.curve.x.length === 0);
  return html`
    <${Chart} label=${`${words} of ${runs.length} runs`} series=${series} xLabel="step" yLabel=${words.toLowerCase()} canLog=${name !== "tokens_per_s"}
      height=${340} empty=${`None of these runs has a ${words.toLowerCase()} yet.`} />
    ${without.length > 0 && without.length < runs.length
      ? html`<p class="chart-note">Without data: ${without.map((run) => (run.job ? run.id : `${run.id} (no such run)`)).join(", ")}</p>`
      : null}
  `;
}
