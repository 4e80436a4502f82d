import { Ago, StateBadge, Tag } from "../../components/basics.js";
import { Panel } from "../../components/layout.js";
import { RunLink } from "../../components/run_link.js";
import { Await, Empty } from "../../components/states.js";
import { Table } from "../../components/table.js";
import { bytes } from "../../core/format.js";
import { kindName } from "../../core/kinds.js";
import { html } from "../../core/ui.js";

const COLUMNS = [
  { name: "Worker", isHeader: true, show: (worker) => html`<code>${worker.id}</code>` },
  { name: "State", show: (worker) => html`<${WorkerState} worker=${worker} />` },
  { name: "Does", show: (worker) => worker.kinds.map(kindName).join(", ") },
  { name: "Has", show: (worker) => html`<${Machine} worker=${worker} />` },
  { name: "Works on", show: (worker) => worker.runs.map((run) => html`<div key=${run.run_id}><${RunLink} id=${run.run_id} /></div>`) },
  { name: "Last seen", show: (worker) => html`<${Ago} at=${worker.last_seen_at} />` },
];

/** Worker processes and what they have. @param {{workers: import("../../core/data.js").Loaded<any>}} props */
export function WorkersPanel({ workers }) {
  const live = (data) => data.items.filter((worker) => worker.is_alive);
  return html`<${Panel} title="Workers" isFlush>
    <${Await} of=${workers} isEmpty=${(data) => live(data).length === 0} lines=${3}
      empty=${html`<${Empty} title="No worker is up"><span>Runs wait until one starts: <code>nearfirst up</code> starts one of each kind.</span><//>`}>
      ${(data) => html`<${Table} caption="Workers that are up" columns=${COLUMNS} rows=${live(data)} />`}
    <//>
  <//>`;
}

function WorkerState({ worker }) {
  if (worker.is_stopping) return html`<${Tag}>stopping<//>`;
  return worker.runs.length ? html`<${StateBadge} state="running" />` : html`<${Tag}>idle<//>`;
}

function Machine({ worker }) {
  if (worker.gpus.length === 0) return `${worker.num_cpus} CPU cores`;
  const busy = new Map(worker.runs.flatMap((run) => run.gpus.map((gpu) => [gpu, run.run_id])));
  return worker.gpus.map(
    (gpu) => html`<div key=${gpu.id}>GPU ${gpu.id}: ${gpu.name ?? "unnamed"}, ${gpu.memory_bytes ? bytes(gpu.memory_bytes) : "memory unknown"}, ${busy.get(gpu.id) ?? "free"}</div>`,
  );
}
