/** Curves in numbers: where they end, the area under them, and how soon they are where the baseline ends. */
import { Panel } from "../../components/layout.js";
import { Table } from "../../components/table.js";
import { count } from "../../core/format.js";
import { useRoute } from "../../core/router.js";
import { html } from "../../core/ui.js";
import { chosenMetric } from "./effects.js";
import { metricName, stepsWords, valueOf } from "./metrics.js";

/** @param {{report: any}} props */
export function OutcomesPanel({ report }) {
  const { query } = useRoute();
  const metric = chosenMetric(report, query);
  const rows = report.outcomes.filter((each) => each.metric === metric && each.steps.length > 0);
  const level = rows.find((each) => each.steps_to)?.steps_to.threshold;
  const hint = level === undefined
    ? "Means over seeds."
    : `Means over seeds. Steps to level: until the mean curve first reaches ${valueOf(level, metric)}, where ${report.design.reference} ends; in brackets the 95 % interval.`;
  return html`
    <${Panel} title=${`${metricName(metric)} in numbers`} hint=${hint} isFlush>
      <${Table} caption=${`${metricName(metric)} of each arrangement`} columns=${COLUMNS} rows=${rows} keyOf=${(row) => row.arrangement} isCompact />
    <//>
    ${report.drops.length ? html`<${Drops} report=${report} />` : null}
  `;
}

const COLUMNS = [
  { name: "Arrangement", isHeader: true, show: (row) => row.arrangement },
  { name: "Seeds", isNumber: true, show: (row) => row.num_seeds },
  { name: "First", isNumber: true, show: (row) => valueOf(row.mean[0], row.metric) },
  { name: "Last", isNumber: true, show: (row) => valueOf(row.mean.at(-1), row.metric) },
  { name: "Last, by seed", isNumber: true, show: (row) => (row.num_seeds > 1 ? html`<span class="nowrap">${valueOf(row.low.at(-1), row.metric)} to ${valueOf(row.high.at(-1), row.metric)}</span>` : "") },
  { name: "Area under the curve", isNumber: true, show: (row) => valueOf(row.area, row.metric) },
  { name: "Steps to level", isNumber: true, show: stepsTo },
];

function stepsTo({ steps_to: found }) {
  if (!found) return "";
  const [reached, low, high] = [found.steps, found.low, found.high].map(stepsWords);
  return reached === low && low === high ? reached : html`<span class="nowrap">${reached} [${low}, ${high}]</span>`;
}

const DROP_COLUMNS = [
  { name: "Task", isHeader: true, show: (row) => row.task },
  { name: "Arrangement", show: (row) => row.arrangement },
  { name: "At step", isNumber: true, show: (row) => count(Math.round(row.step)) },
  { name: "Falls by", isNumber: true, show: (row) => valueOf(row.size, "loss") },
  { name: "p", isNumber: true, show: (row) => row.p_value.toFixed(3) },
];

function Drops({ report }) {
  return html`<${Panel} title="Sudden drops" hint=${`Where a task's loss falls at once, of the ${report.drops_of_tasks} tasks with the most test examples.`} isFlush>
    <${Table} caption="Sudden drops" columns=${DROP_COLUMNS} rows=${report.drops} keyOf=${(row) => `${row.arrangement} ${row.task} ${row.step}`} isCompact />
  <//>`;
}
