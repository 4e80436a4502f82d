/** Whether each test row has something near it in the order, and how early. */
import { Chart } from "../../components/chart.js";
import { Panel } from "../../components/layout.js";
import { Table } from "../../components/table.js";
import { count, number, percent } from "../../core/format.js";
import { html, useMemo } from "../../core/ui.js";

const WORST = 10;
const SLOTS = [2, 5, 0]; // of the first tenth, the first half, all

/** @param {{coverage: any, numTest: number}} props */
export function CoveragePanel({ coverage, numTest }) {
  const series = useMemo(() => coverage.shares.map(lineOf), [coverage]);
  const worst = useMemo(() => worstOf(coverage.rows), [coverage]);
  return html`<${Panel} title="Coverage of the test rows" hint=${html`How near the order comes to each of the ${count(numTest)} test rows.
    ${" "}${coverage.num_never_nearest === 0 ? "Each is the nearest of some train row." : `${count(coverage.num_never_nearest)} are the nearest of no train row.`}`}>
    <${Chart} label="Best similarity of test rows by percentile" series=${series} xLabel="percent of the test rows" yLabel="best similarity" height=${240}
      canLog=${false} formatX=${(x) => number(x)} formatY=${(y) => number(y, 3)} />
    <${Table} caption="Share of test rows that are covered" isCompact isCards=${false} keyOf=${(row) => row.at} rows=${coverage.shares.map((share, at) => ({ at, ...share }))}
      columns=${[
        { name: "Of the order", isHeader: true, show: (row) => shareName(row.share) },
        { name: "Rows", isNumber: true, show: (row) => count(row.num_rows) },
        ...coverage.levels.map((level, at) => ({ name: `≥ ${number(level)}`, isNumber: true, show: (row) => percent(row.covered[at]) })),
      ]} />
    <details class="chart-note"><summary>The ${Math.min(WORST, worst.length)} test rows that are covered worst</summary>
      <${Table} caption="Test rows that are covered worst" isCompact rows=${worst} columns=${[
        { name: "Test row", isHeader: true, show: (row) => html`<code>${row.id}</code>` },
        { name: "Best similarity", isNumber: true, show: (row) => number(row.similarity, 3) },
        { name: "At position", isNumber: true, show: (row) => count(row.position) },
        { name: "Nearest of", isNumber: true, show: (row) => `${count(row.numNearest)} rows` },
      ]} />
    </details>
  <//>`;
}

function shareName(share) {
  return share === 1 ? "All of it" : `The first ${percent(share)}`;
}

function lineOf(share, at) {
  return { key: String(share.share), label: shareName(share.share), x: share.percentiles.map((_, percentile) => percentile), y: share.percentiles, slot: SLOTS[at % SLOTS.length] };
}

function worstOf(rows) {
  const found = rows.ids.map((id, at) => ({ id, similarity: rows.best_similarity[at], position: rows.best_position[at], numNearest: rows.num_nearest[at] }));
  return found.sort((a, b) => a.similarity - b.similarity).slice(0, WORST);
}
