/** The order receipt: what was consumed, verified by the API when it is asked. */
import { Copyable, Facts } from "../../components/basics.js";
import { DownloadButton } from "../../components/figure.js";
import { Panel } from "../../components/layout.js";
import { Await, Empty } from "../../components/states.js";
import { useJson } from "../../core/data.js";
import { count } from "../../core/format.js";
import { html } from "../../core/ui.js";

/** @param {{job: any}} props */
export function ReceiptPanel({ job }) {
  const isDone = job.state === "succeeded";
  const path = `/train-jobs/${encodeURIComponent(job.id)}`;
  const receipt = useJson(isDone ? `${path}/receipt` : null);
  return html`<${Panel} title="Order receipt" hint="A chain of hashes over the examples that each step consumed."
    actions=${isDone && html`<${DownloadButton} path=${`${path}/consumed`} filename=${`${job.id}.consumed.jsonl`} label="Consumed ids" />`}>
    ${isDone
      ? html`<${Await} of=${receipt} lines=${4}>${(data) => html`<${Receipt} receipt=${data} />`}<//>`
      : html`<${Empty} title="Not yet"><span>It is written when the training has succeeded.</span><//>`}
  <//>`;
}

function Receipt({ receipt }) {
  return html`
    <div class=${`notice ${receipt.verified ? "good" : "bad"}`}>
      <strong>${receipt.verified ? "Verified" : "Not verified"}</strong>
      <span>${receipt.verified
        ? "Training consumed exactly the planned examples, in the planned order; the chain was computed again just now."
        : "What training consumed isn't what the order plans."}</span>
    </div>
    <${Facts} items=${[
      ["Head", html`<${Copyable} text=${receipt.head} name="the head" />`],
      ["Order", html`<${Copyable} text=${receipt.arrangement_digest} name="the order's digest" />`],
      ["Steps", count(receipt.steps)],
      ["Rows", count(receipt.num_rows)],
    ]} />
  `;
}
