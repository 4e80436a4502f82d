/** What a training would take. */
import { Facts, Stats } from "../../components/basics.js";
import { Panel } from "../../components/layout.js";
import { bytes, count, duration, number, short } from "../../core/format.js";
import { html } from "../../core/ui.js";

/** @param {{estimate: any, isOld: boolean}} props isOld: the settings were changed since */
export function EstimatePanel({ estimate, isOld }) {
  const { parameters, tokens, checkpoints, memory, time, available } = estimate.estimates;
  return html`<${Panel} title="What it takes" hint=${isOld ? "Of the settings before they were changed." : "Estimated; nothing is started yet."}>
    <div class=${`stack${isOld ? " is-old" : ""}`} role="status">
      <${Stats} items=${[
        ["Steps", count(estimate.steps), `${count(estimate.rows)} rows`],
        ["Tokens", estimate.tokens === null ? "unknown" : short(estimate.tokens), tokens ? tokensSaid(tokens) : ""],
        ["Time", time ? duration(time.seconds) : "unknown", time ? `at ${short(time.tokens_per_s)} tokens/s` : "no such training was measured yet"],
        ["Memory", memory ? bytes(memory.total_bytes) : "unknown", memory ? (memory.num_processes === 1 ? "one process" : `each of ${memory.num_processes} processes`) : ""],
        ["Disk", estimate.checkpoint_bytes === null ? "unknown" : bytes(estimate.checkpoint_bytes), "checkpoints that are kept"],
      ]} />
      <${Facts} items=${[
        parameters && ["Parameters", `${short(parameters.total)}, ${parameters.trainable === parameters.total ? "all" : short(parameters.trainable)} trained`],
        tokens && ["Longest row", `${count(tokens.longest_row)} tokens`],
        checkpoints && ["Checkpoints", `${count(checkpoints.num_weights)} with weights, ${count(checkpoints.num_states)} to resume from`],
        checkpoints && ["Most on disk", bytes(checkpoints.peak_bytes)],
        available.disk_bytes !== null && ["Free disk", bytes(available.disk_bytes)],
        available.gpu_memory_bytes !== null && ["A GPU has", bytes(available.gpu_memory_bytes)],
        memory && ["Shared by", memory.strategy],
        time && ["Rate from", html`<code>${time.run}</code>`],
      ]} />
      ${estimate.remarks.length ? html`<div class="notice"><strong>To know</strong><ul>${estimate.remarks.map((remark) => html`<li key=${remark}>${remark}</li>`)}</ul></div>` : null}
    </div>
  <//>`;
}

function tokensSaid(tokens) {
  if (tokens.is_exact) return "counted";
  return tokens.standard_error === null ? "estimated" : `± ${number((100 * tokens.standard_error) / tokens.tokens, 2)} %`;
}
