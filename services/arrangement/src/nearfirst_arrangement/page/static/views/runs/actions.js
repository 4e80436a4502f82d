/** Cancel and resume. */
import { ConfirmButton } from "../../components/dialogs.js";
import { announce } from "../../core/announce.js";
import { postJson } from "../../core/api.js";
import { html } from "../../core/ui.js";

const CAN_END = new Set(["queued", "running"]);
const CAN_GO_ON = new Set(["failed", "cancelled"]);

/** @param {{job: any, onChange: () => void}} props */
export function RunActions({ job, onChange }) {
  const path = `/train-jobs/${encodeURIComponent(job.id)}`;
  if (CAN_END.has(job.state)) {
    return html`<${ConfirmButton} key="cancel" label="Cancel" kind="danger" title="Cancel this run?" confirm="Cancel the run"
      question=${`${job.id} ends ${job.state === "queued" ? "now" : "as soon as its worker hears of it"}. What it has saved stays, and it can be resumed.`}
      act=${() => postJson(`${path}/cancel`)} onDone=${() => done(onChange, "The run is being cancelled.")} />`;
  }
  if (CAN_GO_ON.has(job.state)) {
    return html`<${ConfirmButton} key="resume" label="Resume" kind="primary" title="Resume this run?" confirm="Resume the run"
      question=${`${job.id} is queued again and goes on from its last state checkpoint; without one, from the start.`}
      act=${() => postJson(`${path}/resume`)} onDone=${() => done(onChange, "The run is queued again.")} />`;
  }
  return null;
}

function done(onChange, words) {
  announce(words);
  onChange();
}
