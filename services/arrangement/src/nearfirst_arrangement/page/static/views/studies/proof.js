/** Why the numbers can be trusted, and what they have cost: receipts, leaks, versions. */
import { Copyable, Facts } from "../../components/basics.js";
import { Panel } from "../../components/layout.js";
import { RunLink } from "../../components/run_link.js";
import { Table } from "../../components/table.js";
import { count, duration, percent, short } from "../../core/format.js";
import { html } from "../../core/ui.js";

/** @param {{report: any}} props */
export function ProofPanel({ report }) {
  const { cost } = report;
  const unknown = cost.num_unknown ? `, ${cost.num_unknown} runs not counted` : "";
  return html`
    <${Panel} title="Receipts and cost" isFlush hint=${`${duration(cost.seconds)} of training in all${unknown}; ${short(cost.tokens)} tokens.`}>
      <${Table} caption="Receipt and cost of each run" columns=${RUN_COLUMNS} rows=${report.runs} keyOf=${(row) => `${row.arrangement} ${row.seed}`} isCompact />
    <//>
    <${Panel} title="Leaks" isFlush hint="Test texts among the rows that were trained on.">
      <${Table} caption="Test texts among each arrangement's rows" columns=${LEAK_COLUMNS} rows=${report.arrangements} keyOf=${(row) => row.label} isCompact />
    <//>
    <${Panel} title="Versions">
      <${Facts} items=${Object.entries(report.versions)} />
    <//>
  `;
}

const RUN_COLUMNS = [
  { name: "Arrangement", isHeader: true, show: (row) => row.arrangement },
  { name: "Seed", isNumber: true, show: (row) => row.seed },
  { name: "Run", show: (row) => (row.id ? html`<${RunLink} kind="train_job" id=${row.id} />` : "") },
  { name: "Receipt", show: receipt },
  { name: "Last step", isNumber: true, show: (row) => count(row.last_step) },
  { name: "Took", isNumber: true, show: (row) => duration(row.seconds) },
  { name: "Tokens", isNumber: true, show: (row) => short(row.tokens) },
];

function receipt(row) {
  if (row.failure !== null) return html`<span class="badge failed" title=${row.failure}>failed</span>`;
  if (row.receipt_head === null) return html`<span class="quiet">none yet</span>`;
  const badge = row.receipt_verified
    ? html`<span class="badge succeeded">verified</span>`
    : html`<span class="badge failed">not verified</span>`;
  return html`<span class="row tight">${badge}<${Copyable} text=${row.receipt_head} length=${12} name="the receipt's head" /></span>`;
}

const LEAK_COLUMNS = [
  { name: "Arrangement", isHeader: true, show: (row) => row.label },
  { name: "Rows", isNumber: true, show: (row) => count(row.leaks?.num_rows) },
  { name: "Whole text", isNumber: true, show: (row) => leaked(row.leaks, "text_rows") },
  { name: "Instruction alone", isNumber: true, show: (row) => leaked(row.leaks, "instruction_rows") },
  { name: "Near duplicates", isNumber: true, show: (row) => leaked(row.leaks, "near_duplicate_rows") },
];

function leaked(leaks, name) {
  if (!leaks) return html`<span class="quiet">not looked at yet</span>`;
  const found = leaks[name];
  if (found === null) return html`<span class="quiet">not measured</span>`;
  return found === 0 ? html`<span class="verdict good">none</span>` : html`<span class="verdict bad">${count(found)} (${percent(found / leaks.num_rows)})</span>`;
}
