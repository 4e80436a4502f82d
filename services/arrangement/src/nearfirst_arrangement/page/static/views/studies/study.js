/** One study: its graph, and what it says so far. */
import { Copyable, Facts, Json, Progress, Stats } from "../../components/basics.js";
import { Panel, View } from "../../components/layout.js";
import { Await, Empty } from "../../components/states.js";
import { getJson } from "../../core/api.js";
import { useJson, useLiveReload, useLoaded } from "../../core/data.js";
import { count, duration, moment, secondsBetween } from "../../core/format.js";
import { html } from "../../core/ui.js";
import { StudyActions } from "./actions.js";
import { CurvesPanel } from "./curves.js";
import { DownloadsPanel } from "./downloads.js";
import { EffectsPanel } from "./effects.js";
import { GraphPanel } from "./graph.js";
import { OutcomesPanel } from "./outcomes.js";
import { ProofPanel } from "./proof.js";
import { StudyState } from "./list.js";

const REPORT_EVERY_MS = 6000;

/** @param {{id: string}} props */
export function StudyView({ id }) {
  const path = `/studies/${encodeURIComponent(id)}`;
  const study = useJson(path);
  const nodes = useLoaded((signal) => allNodes(path, signal), [path]);
  useLiveReload(study.reload, (event) => event.run_id === id, 1000);
  const runs = new Set((nodes.data ?? []).map((node) => node.run));
  useLiveReload(nodes.reload, (event) => event.run_id === id || runs.has(event.run_id), 1500);
  const reload = () => {
    study.reload();
    nodes.reload();
  };
  const name = study.data?.spec.name ?? "Study";
  const heading = study.data ? html`<${StudyState} study=${study.data} />` : null;
  return html`<${View} title=${name} heading=${heading} hint=${study.data?.spec.question} crumbs=${[["Studies", "/studies"]]}
      actions=${study.data ? html`<${StudyActions} study=${study.data} onChange=${reload} />` : null}>
    <${Await} of=${study} isBlock>
      ${(data) => html`
        <${Notices} study=${data} />
        <${Numbers} study=${data} nodes=${nodes.data ?? []} />
        ${data.finished_at ? null : html`<${GraphPanel} study=${data} nodes=${nodes} />`}
        <${Results} key="results" study=${data} path=${path} />
        ${data.finished_at ? html`<${GraphPanel} study=${data} nodes=${nodes} />` : null}
        <${SettingsPanel} study=${data} />
      `}
    <//>
  <//>`;
}

async function allNodes(path, signal) {
  const items = [];
  let cursor;
  do {
    const page = await getJson(`${path}/nodes`, { cursor, limit: 1000 }, signal);
    items.push(...page.items);
    cursor = page.next_cursor;
  } while (cursor !== null);
  return items;
}

function Notices({ study }) {
  return html`
    ${study.error ? html`<div class="notice bad"><strong>${study.error.title ?? "It failed"}</strong><span>${study.error.detail}</span></div>` : null}
    ${study.is_paused ? html`<div class="notice wait"><strong>It is paused</strong><span>Nothing more of it is begun until it is resumed.</span></div>` : null}
    ${study.warnings.length
      ? html`<div class="notice wait"><strong>Before trusting its answer</strong><ul>${study.warnings.map((text) => html`<li key=${text}>${text}</li>`)}</ul></div>`
      : null}
  `;
}

function Numbers({ study, nodes }) {
  const { spec } = study;
  const ended = nodes.filter((node) => node.kind === "train_job" && node.state === "succeeded").length;
  const total = spec.arrangements.length * spec.seeds.length;
  const seconds = secondsBetween(study.created_at, study.finished_at);
  return html`
    <${Stats} items=${[
      ["Runs", study.progress ? count(study.progress.done) : "–", study.progress?.total ? `of ${count(study.progress.total)}` : ""],
      ["Trainings", count(ended), `of ${count(total)}`],
      ["Arrangements", count(spec.arrangements.length), spec.baseline ? `against ${spec.baseline}` : "no baseline"],
      ["Seeds", count(spec.seeds.length), spec.seeds.join(", ")],
      study.finished_at ? ["Took", duration(seconds)] : ["Under way for", duration(seconds)],
    ]} />
    ${study.finished_at ? null : html`<${Progress} progress=${study.progress} label="The study's runs" />`}
  `;
}

/** What the report says, computed anew while the study grows. */
function Results({ study, path }) {
  const report = useJson(`${path}/report`);
  useLiveReload(report.reload, (event) => isNews(event, study.id), REPORT_EVERY_MS);
  const isEmpty = (found) => found.outcomes.length === 0;
  const empty = html`<${Panel} title="Results"><${Empty} title="Nothing is measured yet">
    <span>Curves and effects appear with the first checkpoint that is measured, and grow from there.</span><//><//>`;
  return html`<${Await} of=${report} isBlock isEmpty=${isEmpty} empty=${empty}>
    ${(found) => html`
      <${Remarks} warnings=${found.warnings} known=${study.warnings.length > 0} />
      <${EffectsPanel} report=${found} />
      <${CurvesPanel} report=${found} path=${path} />
      <${OutcomesPanel} report=${found} />
      <${DownloadsPanel} study=${study} path=${path} />
      <${ProofPanel} report=${found} />
    `}
  <//>`;
}

const isNews = (event, id) => event.run_id === id || (event.kind === "evaluation" && event.type === "progress") || (event.kind === "train_job" && event.type === "state");

const ALREADY_SAID = new Set(["no_baseline", "few_seeds"]); // the study's own warnings have them

function Remarks({ warnings, known }) {
  const shown = warnings.filter((each) => !(known && ALREADY_SAID.has(each.code)));
  if (shown.length === 0) return null;
  return html`<div class="notice wait"><strong>Read the results with this in mind</strong>
    <ul>${shown.map((each) => html`<li key=${each.code + each.detail}>${each.detail}</li>`)}</ul></div>`;
}

function SettingsPanel({ study }) {
  const { spec } = study;
  const { training } = spec;
  return html`<${Panel} title="Settings">
    <${Facts} items=${[
      ["Model", training.model.name_or_path],
      ["Steps", training.max_steps === null ? `${training.epochs ?? 1} epochs` : count(training.max_steps)],
      ["Rows in a step", count(training.global_batch_size)],
      ["Checkpoint", training.checkpoint.weights_every ? `every ${count(training.checkpoint.weights_every)} steps` : "at the end"],
      ["Trained on", html`<a href=${`#/datasets/${spec.train.dataset}`}><code>${spec.train.dataset}</code></a>`],
      ["Tested on", html`<a href=${`#/datasets/${spec.test.dataset}`}><code>${spec.test.dataset}</code></a>`],
      ["Begun", moment(study.created_at)],
      ["Id", html`<${Copyable} text=${study.id} name="the id" />`],
    ]} />
    <details class="spec"><summary>The whole spec</summary><${Json} value=${spec} label="The study's whole spec" /></details>
  <//>`;
}
