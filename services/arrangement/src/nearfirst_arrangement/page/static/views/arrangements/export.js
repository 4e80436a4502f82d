/** The arranged dataset as a file for other trainers, and what keeps its order there. */
import { Copyable, Json } from "../../components/basics.js";
import { DownloadButton } from "../../components/figure.js";
import { SelectField } from "../../components/form.js";
import { Panel } from "../../components/layout.js";
import { ProblemNotice } from "../../components/states.js";
import { getJson } from "../../core/api.js";
import { useAction } from "../../core/data.js";
import { bytes, count } from "../../core/format.js";
import { html, useState } from "../../core/ui.js";

const FORMATS = [["messages", "Messages: TRL, axolotl, open-instruct"], ["alpaca", "Alpaca: LLaMA-Factory"], ["sharegpt", "ShareGPT: LLaMA-Factory, axolotl"], ["prompt_completion", "Prompt and completion: TRL"]];
const FILE_TYPES = [["jsonl", "JSON lines"], ["parquet", "Parquet"]];

/** @param {{arrangement: any}} props */
export function ExportPanel({ arrangement }) {
  const [format, setFormat] = useState("messages");
  const [fileType, setFileType] = useState("jsonl");
  const [manifest, setManifest] = useState(null);
  const path = `/arrangements/${encodeURIComponent(arrangement.id)}`;
  const query = { format, file_type: fileType };
  const note = useAction(async () => setManifest(await getJson(`${path}/export/manifest`, query)));
  const change = (set) => (value) => {
    set(value);
    setManifest(null);
    note.forget();
  };
  return html`<${Panel} title="Take it elsewhere" hint="The rows themselves, in this order. Most trainers shuffle unless they are told not to."
    actions=${FILE_TYPES.map(([type, words]) => html`<${DownloadButton} key=${type} path=${`${path}/order`} query=${{ format: type }} filename=${`${arrangement.id}.order.${type}`} label=${`The order alone, ${words}`} />`)}>
    <div class="form">
      <div class="form-grid">
        <${SelectField} label="Layout" value=${format} options=${FORMATS} onChange=${change(setFormat)} />
        <${SelectField} label="File" value=${fileType} options=${FILE_TYPES} onChange=${change(setFileType)} />
      </div>
      <div class="row">
        <${DownloadButton} kind="primary" path=${`${path}/export`} query=${query} filename=${`${arrangement.id}.${format}.${fileType}`} label="Download the arranged data" />
        <button type="button" class="button" disabled=${note.isBusy} onClick=${note.run}>${note.isBusy ? "One moment…" : "How to keep the order"}</button>
      </div>
      ${note.problem ? html`<${ProblemNotice} problem=${note.problem} onRetry=${note.run} />` : null}
      ${manifest ? html`<${OrderNote} manifest=${manifest} />` : null}
    </div>
  <//>`;
}

function OrderNote({ manifest }) {
  return html`<div class="notice">
    <strong>Keep the order</strong>
    <span>${manifest.note.text}</span>
    ${Object.entries(manifest.note.settings).map(([trainer, settings]) => html`<div class="setting" key=${trainer}><span class="quiet">${trainer}</span><${Json} value=${settings} label=${`Settings of ${trainer}`} /></div>`)}
    <span class="quiet">${count(manifest.num_rows)} rows, ${bytes(manifest.size_bytes)}, digest ${" "}<${Copyable} text=${manifest.file_digest} length=${20} name="the file's digest" /></span>
  </div>`;
}
