import { Stats } from "../../components/basics.js";
import { View } from "../../components/layout.js";
import { useJson, useLiveReload } from "../../core/data.js";
import { count } from "../../core/format.js";
import { html } from "../../core/ui.js";
import { EventsPanel } from "./events.js";
import { QueuePanels } from "./queue.js";
import { WorkersPanel } from "./workers.js";

/** What goes on now. */
export function Overview() {
  const queue = useJson("/queue");
  const workers = useJson("/workers", { limit: 1000 });
  useLiveReload(queue.reload, (event) => event.type === "state");
  useLiveReload(workers.reload, (event) => event.type === "state", 3000);
  return html`<${View} title="Overview" hint="What runs, what waits and why, and which worker does it.">
    <${Numbers} queue=${queue.data} workers=${workers.data} />
    <div class="columns wide-first">
      <div class="stack">
        <${QueuePanels} queue=${queue} />
        <${WorkersPanel} workers=${workers} />
      </div>
      <${EventsPanel} />
    </div>
  <//>`;
}

function Numbers({ queue, workers }) {
  const kinds = queue?.kinds ?? [];
  const alive = (workers?.items ?? []).filter((worker) => worker.is_alive);
  const gpus = alive.flatMap((worker) => worker.gpus);
  const busy = alive.flatMap((worker) => worker.runs.flatMap((run) => run.gpus));
  const sum = (field) => (queue ? count(kinds.reduce((total, kind) => total + kind[field], 0)) : "–");
  return html`<${Stats} items=${[
    ["Running", sum("num_running")],
    ["Waiting", sum("num_waiting")],
    ["Workers", workers ? count(alive.length) : "–"],
    ["GPUs in use", workers ? `${busy.length} of ${gpus.length}` : "–"],
  ]} />`;
}
