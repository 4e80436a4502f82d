import { Ago, Tag } from "../../components/basics.js";
import { Panel } from "../../components/layout.js";
import { RunLink } from "../../components/run_link.js";
import { Await, Empty } from "../../components/states.js";
import { Table } from "../../components/table.js";
import { count } from "../../core/format.js";
import { kindName } from "../../core/kinds.js";
import { html } from "../../core/ui.js";

const RUN = { name: "Run", isHeader: true, show: (run) => html`<${RunLink} kind=${run.kind} id=${run.id} />` };
const KIND = { name: "Kind", show: (run) => html`<${Tag}>${kindName(run.kind)}<//>` };

const RUNNING = [
  RUN,
  KIND,
  { name: "Worker", show: (run) => run.worker && html`<code>${run.worker}</code>` },
  { name: "GPUs", show: (run) => run.gpus.join(", ") },
  { name: "Since", show: (run) => html`<${Ago} at=${run.started_at} />` },
];

const WAITING = [
  RUN,
  KIND,
  { name: "Waits because", show: (run) => run.waits_because },
  { name: "Priority", isNumber: true, show: (run) => run.priority },
  { name: "Since", show: (run) => html`<${Ago} at=${run.created_at} />` },
];

/** What runs, and what waits and why. @param {{queue: import("../../core/data.js").Loaded<any>}} props */
export function QueuePanels({ queue }) {
  const runs = (field) => (data) => data.kinds.flatMap((kind) => kind[field]);
  return html`
    <${Panel} title="Running" isFlush>
      <${QueueTable} queue=${queue} rowsOf=${runs("running")} total="num_running" columns=${RUNNING} caption="Runs under way"
        empty=${html`<${Empty} title="Nothing runs"><span>What you submit is begun at once when a worker is free.</span><//>`} />
    <//>
    <${Panel} title="Waiting" isFlush>
      <${QueueTable} queue=${queue} rowsOf=${runs("waiting")} total="num_waiting" columns=${WAITING} caption="Runs that wait, and why"
        empty=${html`<${Empty} title="Nothing waits" />`} />
    <//>
  `;
}

function QueueTable({ queue, rowsOf, total, columns, caption, empty }) {
  return html`<${Await} of=${queue} empty=${empty} isEmpty=${(data) => rowsOf(data).length === 0} lines=${3}>
    ${(data) => {
      const rows = rowsOf(data);
      const num = data.kinds.reduce((sum, kind) => sum + kind[total], 0);
      return html`
        <${Table} caption=${caption} columns=${columns} rows=${rows} />
        ${num > rows.length ? html`<p class="list-foot">The first ${count(rows.length)} of ${count(num)}</p>` : null}
      `;
    }}
  <//>`;
}
