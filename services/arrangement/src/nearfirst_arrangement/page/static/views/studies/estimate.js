/** What a study would take. */
import { Facts, Json, Stats } from "../../components/basics.js";
import { Panel } from "../../components/layout.js";
import { bytes, count, duration, short } from "../../core/format.js";
import { html } from "../../core/ui.js";

/** @param {{estimate: any}} props the answer to the dry run, with the spec that was asked for */
export function EstimatePanel({ estimate }) {
  const { train_job: job } = estimate;
  const { estimates } = job;
  const disk = job.checkpoint_bytes === null ? null : job.checkpoint_bytes * estimate.num_train_jobs;
  return html`<${Panel} title="What it would take" hint="Nothing is queued yet.">
    <div class="form-stack" role="status">
      ${estimate.warnings.length
        ? html`<div class="notice wait"><strong>Before trusting its answer</strong><ul>${estimate.warnings.map((text) => html`<li key=${text}>${text}</li>`)}</ul>
            <span>It can be run all the same.</span></div>`
        : null}
      <${Stats} items=${[
        ["Orders to make", count(estimate.num_orders)],
        ["Trainings", count(estimate.num_train_jobs), `${count(job.steps)} steps each`],
        ["Training time", duration(estimate.train_seconds), estimate.train_seconds === null ? "nothing like it has run yet" : "one after the other"],
        ["Checkpoints to measure", count(estimate.num_checkpoints)],
        ["Disk", bytes(disk), estimates.available.disk_bytes === null ? "" : `of ${bytes(estimates.available.disk_bytes)} free`],
      ]} />
      <${Facts} items=${[
        ["Parameters", estimates.parameters ? count(estimates.parameters.total) : null],
        ["Rows of a training", count(job.rows)],
        ["Tokens of a training", job.tokens === null ? null : short(job.tokens)],
        ["Memory of a process", estimates.memory ? bytes(estimates.memory.total_bytes) : null],
        ["Memory of a GPU", job.gpu_memory_bytes === null ? null : bytes(job.gpu_memory_bytes)],
      ]} />
      ${job.remarks.length ? html`<ul class="field-list quiet">${job.remarks.map((text) => html`<li key=${text}>${text}</li>`)}</ul>` : null}
      <details><summary>The spec that would be submitted</summary><${Json} value=${estimate.spec} label="The spec that would be submitted" /></details>
    </div>
  <//>`;
}
