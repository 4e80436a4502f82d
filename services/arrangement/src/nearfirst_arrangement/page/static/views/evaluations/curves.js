/** Curves of a metric over checkpoints: of one evaluation or several, of all examples or of one task. */
import { Choice } from "../../components/basics.js";
import { Chart } from "../../components/chart.js";
import { SelectFilter } from "../../components/filters.js";
import { Panel } from "../../components/layout.js";
import { Await } from "../../components/states.js";
import { getJson } from "../../core/api.js";
import { slotsOf } from "../../core/colours.js";
import { useLiveReload, useLoaded } from "../../core/data.js";
import { count, number } from "../../core/format.js";
import { link, setQuery, useRoute } from "../../core/router.js";
import { html, useMemo } from "../../core/ui.js";
import { metricInSentence, metricName, unitOf } from "../studies/metrics.js";

/** Most evaluations in one chart: as many as there are colours. */
export const MOST_COMPARED = 8;
const MOST_TASKS = 8;
const ALL_TASKS = "*";

/** The ids that the address names to be compared. @param {Record<string, string>} query @returns {string[]} */
export function comparedIds(query) {
  return [...new Set((query.compare ?? "").split(",").filter(Boolean))].slice(0, MOST_COMPARED);
}

/** @param {{ids: string[], onRemove?: (id: string) => void, own?: string}} props `own`: the evaluation whose view it is */
export function CurvesPanel({ ids, onRemove, own }) {
  const { query } = useRoute();
  const loaded = useLoaded((signal) => Promise.all(ids.map((id) => loadOne(id, signal))), [ids]);
  useLiveReload(loaded.reload, (event) => ids.includes(event.run_id), 2500);
  const found = loaded.data ?? [];
  const metrics = [...new Set(found.flatMap((each) => each.evaluation?.spec.metrics ?? []))];
  const metric = metrics.includes(query.metric) ? query.metric : metrics[0];
  const tasks = [...new Set(found.flatMap((each) => each.points.filter((point) => point.metric === metric).flatMap((point) => Object.keys(point.by_task))))].sort();
  const choice = metrics.length > 1
    ? html`<${Choice} label="Metric" value=${metric} options=${metrics.map((each) => [each, metricName(each)])} onChoose=${(each) => setQuery({ metric: each === metrics[0] ? null : each })} />`
    : null;
  const byTask = tasks.length
    ? html`<div class="filters chart-filters"><${SelectFilter} name="task" label="Of which examples" value=${query.task ?? ""} all="All examples"
        options=${[...(ids.length === 1 ? [[ALL_TASKS, "Each task for itself"]] : []), ...tasks.map((task) => [task, `Task: ${task}`])]} /></div>`
    : null;
  return html`<${Panel} title=${metric ? `${metricName(metric)} over checkpoints` : "Curves"} actions=${choice}>
    <${Await} of=${loaded} isBlock>
      ${() => html`
        ${byTask}
        <${Overlay} found=${found} metric=${metric} task=${query.task ?? ""} tasks=${tasks} />
      `}
    <//>
    ${onRemove ? html`<${Chips} ids=${ids.filter((id) => id !== own)} found=${found} onRemove=${onRemove} />` : null}
  <//>`;
}

/** An evaluation that is gone doesn't hide the others. */
async function loadOne(id, signal) {
  const path = `/evaluations/${encodeURIComponent(id)}`;
  try {
    const [evaluation, points] = await Promise.all([getJson(path, {}, signal), allPoints(path, signal)]);
    return { id, evaluation, points };
  } catch (problem) {
    if (problem.status !== 404) throw problem;
    return { id, evaluation: null, points: [] };
  }
}

async function allPoints(path, signal) {
  const items = [];
  let cursor;
  do {
    const page = await getJson(`${path}/curve`, { cursor, limit: 10_000 }, signal);
    items.push(...page.items);
    cursor = page.next_cursor;
  } while (cursor !== null);
  return items;
}

function Overlay({ found, metric, task, tasks }) {
  const series = useMemo(() => (task === ALL_TASKS && found.length === 1 ? taskLines(found[0], metric, tasks) : lines(found, metric, task)), [found, metric, task]);
  const isMany = task === ALL_TASKS && tasks.length > MOST_TASKS;
  return html`
    <${Chart} label=${`${metricName(metric ?? "")} over checkpoints`} series=${series} xLabel="step" yLabel=${`${metricInSentence(metric ?? "")}, ${unitOf(metric)}`}
      canLog=${metric === "loss"} height=${320} formatX=${count} formatY=${number} empty="Nothing is measured yet: points appear with the first checkpoint." />
    ${isMany ? html`<p class="chart-note">The first ${MOST_TASKS} of ${tasks.length} tasks; choose one above to see any other.</p>` : null}
  `;
}

function lines(found, metric, task) {
  const slots = slotsOf(found.map((each) => each.id));
  return found.map(({ id, evaluation, points }) => ({
    key: id,
    label: evaluation ? labelOf(evaluation) : id,
    ...pointsOf(points, metric, (point) => (task && task !== ALL_TASKS ? point.by_task[task] : point.value)),
    slot: slots.get(id),
  }));
}

function labelOf({ id, spec }) {
  return spec.train_job === null ? id : `${id} of ${spec.train_job}`;
}

function taskLines({ points }, metric, tasks) {
  const shown = tasks.slice(0, MOST_TASKS);
  const slots = slotsOf(shown.map((task) => `task ${task}`));
  return shown.map((task) => ({ key: task, label: task, ...pointsOf(points, metric, (point) => point.by_task[task]), slot: slots.get(`task ${task}`) }));
}

function pointsOf(points, metric, value) {
  const kept = points.filter((point) => point.metric === metric).map((point) => [point.step, value(point)]).filter(([, y]) => y !== null && y !== undefined);
  return { x: kept.map(([x]) => x), y: kept.map(([, y]) => y) };
}

function Chips({ ids, found, onRemove }) {
  if (ids.length === 0) return null;
  const gone = new Set(found.filter((each) => each.evaluation === null).map((each) => each.id));
  return html`<ul class="chips">
    ${ids.map((id) => html`<li key=${id}><a href=${link(`/evaluations/${id}`)}><code>${id}</code></a>${gone.has(id) ? html`<span class="quiet"> (no such evaluation)</span>` : null}
      <button type="button" class="button plain small" aria-label=${`Take ${id} out of the comparison`} onClick=${() => onRemove(id)}>✕</button></li>`)}
  </ul>`;
}
