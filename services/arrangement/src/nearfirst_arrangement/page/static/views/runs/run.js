/** One training. */
import { Ago, Copyable, Facts, Json, Progress, StateBadge } from "../../components/basics.js";
import { Panel, View } from "../../components/layout.js";
import { RunLink } from "../../components/run_link.js";
import { Await } from "../../components/states.js";
import { useJson, useLiveReload } from "../../core/data.js";
import { count, number } from "../../core/format.js";
import { link } from "../../core/router.js";
import { html } from "../../core/ui.js";
import { RunActions } from "./actions.js";
import { CheckpointsPanel } from "./checkpoints.js";
import { CurvesPanel } from "./curves.js";
import { LatestNumbers } from "./latest.js";
import { LogPanel } from "./log.js";
import { ReceiptPanel } from "./receipt.js";

/** @param {{id: string}} props */
export function RunView({ id }) {
  const job = useJson(`/train-jobs/${encodeURIComponent(id)}`);
  useLiveReload(job.reload, (event) => event.run_id === id);
  return html`<${View} title=${id} crumbs=${[["Runs", "/runs"]]}
    heading=${job.data && html`<${StateBadge} state=${job.data.state} />`}
    hint=${job.data && html`<${Origin} job=${job.data} />`}
    actions=${job.data && html`
      <a class="button" href=${link("/runs", { compare: id })}>Compare</a>
      <${RunActions} job=${job.data} onChange=${job.reload} />`}>
    <${Await} of=${job} isBlock>${(data) => html`<${Run} job=${data} />`}<//>
  <//>`;
}

function Run({ job }) {
  return html`
    <${Why} job=${job} />
    <${LatestNumbers} job=${job} />
    ${job.state === "running" || job.state === "cancelling" ? html`<${Progress} progress=${job.progress} label="Training" />` : null}
    <${CurvesPanel} job=${job} />
    <div class="columns">
      <${ReceiptPanel} job=${job} />
      <${CheckpointsPanel} job=${job} />
    </div>
    <${LogPanel} job=${job} />
    <${Panel} title="Settings">
      <${Settings} job=${job} />
    <//>
  `;
}

function Origin({ job }) {
  const { spec } = job;
  return html`${spec.model.name_or_path.split("/").at(-1)} on ${" "}
    ${spec.arrangement === null ? html`<code>${spec.dataset}</code>` : html`<${RunLink} kind="arrangement" id=${spec.arrangement} />`},
    seed ${spec.seed}, submitted ${" "}<${Ago} at=${job.created_at} />`;
}

/** Why it waits, or what it failed of. */
function Why({ job }) {
  if (job.error !== null) {
    return html`<div class="notice bad"><strong>${job.error.title ?? "It failed"}</strong><span>${job.error.detail}</span></div>`;
  }
  if (job.state !== "queued" || job.waits_because === null) return null;
  return html`<div class="notice wait">
    <strong>It waits</strong>
    <span>${job.waits_because}</span>
    ${job.waits_for.length ? html`<span>For: ${job.waits_for.map((id) => html`<span key=${id}><${RunLink} kind="arrangement" id=${id} /> </span>`)}</span>` : null}
  </div>`;
}

function Settings({ job }) {
  const { spec } = job;
  const { optimizer, schedule } = spec;
  return html`
    <${Facts} items=${[
      ["Model", spec.model.name_or_path],
      ["Tuning", spec.tuning],
      ["Steps", spec.max_steps === null ? `${spec.epochs ?? 1} epochs` : count(spec.max_steps)],
      ["Rows in a step", count(spec.global_batch_size)],
      ["Longest example", `${count(spec.max_length)} tokens`],
      ["Learning rate", `${number(optimizer.lr)}, ${schedule.kind}`],
      ["Precision", spec.precision],
      ["Devices", spec.gpus ? `${spec.gpus} GPUs` : `CPU, ${spec.processes === 1 ? "one process" : `${spec.processes} processes`}`],
      ["Seed", spec.seed],
      ["Priority", spec.priority],
      ["Attempt", job.attempt],
      spec.evaluate && ["Test loss", html`every ${spec.evaluate.every} steps on <code>${spec.evaluate.test.dataset}</code>`],
      ["Id", html`<${Copyable} text=${job.id} name="the id" />`],
    ]} />
    <details class="spec"><summary>The whole spec</summary><${Json} value=${spec} label="The run's whole spec" /></details>
  `;
}
