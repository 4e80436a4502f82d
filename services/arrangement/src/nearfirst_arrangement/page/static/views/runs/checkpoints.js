/** What a training has saved. */
import { Copyable, Tag } from "../../components/basics.js";
import { Panel } from "../../components/layout.js";
import { Await, Empty } from "../../components/states.js";
import { Table } from "../../components/table.js";
import { useJson, useLiveReload } from "../../core/data.js";
import { bytes, count } from "../../core/format.js";
import { html, useState } from "../../core/ui.js";

const SHOWN = 8;
const COLUMNS = [
  { name: "Step", isHeader: true, isNumber: true, show: (each) => count(each.step) },
  { name: "Kind", show: (each) => html`<${Tag}>${each.tier}<//>` },
  { name: "Size", isNumber: true, show: (each) => bytes(each.size_bytes) },
  { name: "Digest", show: (each) => html`<${Copyable} text=${each.digest} length=${18} name=${`the digest of step ${each.step}`} />` },
];

/** @param {{job: any}} props */
export function CheckpointsPanel({ job }) {
  const [isWhole, setWhole] = useState(false);
  const checkpoints = useJson(`/train-jobs/${encodeURIComponent(job.id)}/checkpoints`);
  useLiveReload(checkpoints.reload, (event) => event.run_id === job.id, 5000);
  return html`<${Panel} title="Checkpoints" isFlush>
    <${Await} of=${checkpoints} lines=${3} isEmpty=${(page) => page.items.length === 0} empty=${html`<${Empty} title="No checkpoint yet" />`}>
      ${({ items }) => {
        const newest = items.toReversed();
        return html`
          <${Table} caption="Checkpoints, the latest step first" columns=${COLUMNS} isCompact isCards=${false}
            keyOf=${(each) => `${each.step} ${each.tier}`} rows=${isWhole ? newest : newest.slice(0, SHOWN)} />
          ${items.length > SHOWN
            ? html`<div class="list-foot"><span>${isWhole ? items.length : SHOWN} of ${items.length}</span>
                <button type="button" class="button small" onClick=${() => setWhole(!isWhole)}>${isWhole ? "Show fewer" : "Show all"}</button></div>`
            : null}
        `;
      }}
    <//>
  <//>`;
}
