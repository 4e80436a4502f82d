/** A new dataset: a file of the reader's, or a source that the server reads. */
import { Choice } from "../../components/basics.js";
import { SelectField, TextField, fieldErrors } from "../../components/form.js";
import { Panel, View } from "../../components/layout.js";
import { ProblemNotice } from "../../components/states.js";
import { announce } from "../../core/announce.js";
import { postJson } from "../../core/api.js";
import { useAction } from "../../core/data.js";
import { count, percent } from "../../core/format.js";
import { goTo } from "../../core/router.js";
import { html, useEffect, useRef, useState } from "../../core/ui.js";
import { Dropzone } from "./dropzone.js";
import { FORMATS } from "./formats.js";
import { upload } from "./upload_request.js";

const KINDS = [["file", "A file of yours"], ["source", "A source that the server reads"]];
const FIELDS = ["format", "split", "name", "source", "file"];
const LAYOUTS = "JSON lines, JSON or Parquet, also in gzip or Zstandard. The layout is recognised from its rows.";

/** The form; what is added is opened. */
export function AddDataset() {
  const [kind, setKind] = useState("file");
  const [file, setFile] = useState(null);
  const [fields, setFields] = useState({ source: "", name: "", split: "", format: "" });
  const [share, setShare] = useState(null);
  const sending = useRef(null);
  const set = (name) => (value) => setFields((old) => ({ ...old, [name]: value }));
  const action = useAction(async () => {
    sending.current = new AbortController();
    setShare(0);
    try {
      const dataset = kind === "file" ? await sendFile(file, fields, setShare, sending.current.signal) : await postJson("/datasets", given(fields, FIELDS.slice(0, 4)));
      announce(`${dataset.name}: ${count(dataset.num_examples)} rows are registered.`);
      goTo(`/datasets/${dataset.id}`);
    } finally {
      setShare(null);
    }
  });
  useEffect(() => () => sending.current?.abort(), []);
  const errors = readErrors(action.problem, kind);
  const isReady = kind === "file" ? file !== null : fields.source.trim() !== "";
  const submit = (event) => {
    event.preventDefault();
    if (isReady) action.run();
  };
  const choose = (next) => {
    action.forget();
    setKind(next);
  };
  const take = (next) => {
    action.forget();
    setFile(next);
  };
  return html`<${View} title="Add a dataset" crumbs=${[["Datasets", "/datasets"]]} hint="Every row is read and checked first; a file with a wrong row is refused whole, and the row is named.">
    <${Panel} title="Where it is" actions=${html`<${Choice} label="Where it is" options=${KINDS} value=${kind} onChoose=${choose} />`}>
      <form class="form" onSubmit=${submit} noValidate>
        ${kind === "file"
          ? html`<${Dropzone} file=${file} onFile=${take} error=${errors.file} hint=${LAYOUTS} isDisabled=${action.isBusy} />`
          : html`<${TextField} label="Source" value=${fields.source} onChange=${set("source")} error=${errors.source} required placeholder="hf://datasets/owner/name/train.jsonl"
              hint=${html`<code>hf://…</code>, <code>s3://…</code>, <code>https://…</code>, or a path below a folder that the server may read.`} />`}
        <div class="form-grid">
          <${TextField} label="Name" value=${fields.name} onChange=${set("name")} error=${errors.name} hint="Empty: the file's own." maxlength="200" />
          <${SelectField} label="Format" value=${fields.format} onChange=${set("format")} error=${errors.format} options=${[["", "Recognise it from the rows"], ...FORMATS]} />
          <${TextField} label="Split" value=${fields.split} onChange=${set("split")} error=${errors.split} hint=${html`Keep the rows whose <code>split</code> is this. Empty: all.`} />
        </div>
        ${errors[""] ? html`<${ProblemNotice} problem=${action.problem} />` : null}
        <${Sending} share=${share} kind=${kind} />
        <div class="form-foot">
          ${action.isBusy && kind === "file" ? html`<button type="button" class="button" onClick=${() => sending.current?.abort()}>Cancel</button>` : null}
          <button class="button primary" disabled=${!isReady || action.isBusy}>${action.isBusy ? "One moment…" : "Add it"}</button>
        </div>
      </form>
    <//>
  <//>`;
}

function Sending({ share, kind }) {
  if (share === null) return null;
  const isSent = kind === "source" || share >= 1;
  const told = kind === "source" ? "The server reads and checks every row." : isSent ? "It has arrived; every row is read and checked." : `Sending: ${percent(Math.floor(share * 100) / 100)}`;
  return html`<div class="progress" role="status">
    <progress aria-label="The file" max="1" value=${isSent ? undefined : share}></progress>
    <div class="progress-words"><span>${told}</span></div>
  </div>`;
}

function sendFile(file, fields, onProgress, signal) {
  const form = new FormData();
  for (const [name, value] of Object.entries(given(fields, ["format", "split", "name"]))) form.append(name, value);
  form.append("file", file);
  return upload("/datasets", form, { onProgress, signal });
}

/** The fields that have something in them. */
function given(fields, names) {
  return Object.fromEntries(names.map((name) => [name, fields[name].trim()]).filter(([, value]) => value !== ""));
}

/** What is wrong with the rows is said where the file is chosen. */
function readErrors(problem, kind) {
  const errors = fieldErrors(problem, FIELDS);
  if (errors[""] && ["invalid_dataset", "body_too_large", "path_not_allowed", "source_not_allowed"].includes(problem.code)) {
    const { "": text, ...rest } = errors;
    return { ...rest, [kind]: text };
  }
  return errors;
}
