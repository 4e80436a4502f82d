/** One arrangement. */
import { Ago, Copyable, Facts, Json, Progress, StateBadge, Stats } from "../../components/basics.js";
import { ConfirmButton } from "../../components/dialogs.js";
import { DownloadButton } from "../../components/figure.js";
import { Panel, View } from "../../components/layout.js";
import { Await } from "../../components/states.js";
import { announce } from "../../core/announce.js";
import { postJson } from "../../core/api.js";
import { useJson, useLiveReload } from "../../core/data.js";
import { count, duration, number, percent, secondsBetween } from "../../core/format.js";
import { link } from "../../core/router.js";
import { html } from "../../core/ui.js";
import { DatasetName } from "../datasets/names.js";
import { CoveragePanel } from "./coverage.js";
import { CurvePanel } from "./curve.js";
import { DistancePanel } from "./distance.js";
import { ExportPanel } from "./export.js";
import { LikenessPanel } from "./likeness.js";
import { isSeeded, methodOf, ordersOf, title } from "./methods.js";
import { RowsPanel } from "./rows.js";
import { TaskMixPanel } from "./task_mix.js";

const SHOWN_WAITS = 8;

/** @param {{id: string}} props */
export function ArrangementView({ id }) {
  const loaded = useJson(`/arrangements/${encodeURIComponent(id)}`);
  const waitsFor = loaded.data?.waits_for ?? [];
  useLiveReload(loaded.reload, (event) => event.run_id === id || waitsFor.includes(event.run_id));
  const data = loaded.data;
  return html`<${View} title=${data ? title(data.spec) : id} crumbs=${[["Arrangements", "/arrangements"]]}
    heading=${data && html`<${StateBadge} state=${data.state} />`}
    hint=${data && html`<${DatasetName} id=${data.spec.train.dataset} tasks=${data.spec.train.tasks} /> for ${" "}<${DatasetName} id=${data.spec.test.dataset} tasks=${data.spec.test.tasks} />${
      isSeeded(data.spec) ? `, seed ${data.spec.seed}` : ""}, asked for ${" "}<${Ago} at=${data.created_at} />`}
    actions=${data && html`<${Actions} arrangement=${data} onChange=${loaded.reload} />`}>
    <${Await} of=${loaded} isBlock>${(arrangement) => html`<${Shown} arrangement=${arrangement} />`}<//>
  <//>`;
}

function Actions({ arrangement, onChange }) {
  const { id, state } = arrangement;
  const cancel = () => postJson(`/arrangements/${encodeURIComponent(id)}/cancel`);
  const isOpen = state === "queued" || state === "running";
  return html`
    ${isOpen
      ? html`<${ConfirmButton} label="Cancel" kind="danger" title="Cancel this arrangement?" confirm="Cancel it" act=${cancel}
          question="What is under way ends, and so does whatever only this arrangement waits for." onDone=${() => { announce("Cancelled"); onChange(); }} />`
      : null}
    ${state === "succeeded" ? html`<a class="button" href=${link("/arrangements", { compare: id })}>Compare</a>` : null}
    <a class="button" href=${link("/arrangements/new", { like: id })}>Change and arrange anew</a>
    ${isOpen || state === "succeeded" ? html`<a class="button primary" href=${link("/runs/new", { arrangement: id })}>Train on it</a>` : null}
  `;
}

function Shown({ arrangement }) {
  const { report, state } = arrangement;
  return html`
    <${Why} arrangement=${arrangement} />
    ${state === "running" || state === "cancelling"
      ? html`<${Panel} title="Progress">${arrangement.progress ? html`<${Progress} progress=${arrangement.progress} label="Arranging" />` : html`<p class="quiet">It begins.</p>`}<//>`
      : null}
    ${state === "succeeded" ? html`<${KeyNumbers} arrangement=${arrangement} />` : null}
    ${state === "succeeded" && report === null ? html`<div class="notice bad"><strong>The report is lost</strong><span>The order itself can be read.</span></div>` : null}
    ${report ? html`<${Report} arrangement=${arrangement} report=${report} />` : null}
    ${state === "succeeded" ? html`<${RowsPanel} arrangement=${arrangement} />` : null}
    ${state === "succeeded" ? html`<${ExportPanel} arrangement=${arrangement} />` : null}
    <${Settings} arrangement=${arrangement} />
  `;
}

function Report({ arrangement, report }) {
  return html`
    ${report.distance ? html`<${DistancePanel} distance=${report.distance} id=${arrangement.id} />` : html`<${NoSimilarities} />`}
    ${report.task_mix ? html`<${TaskMixPanel} mix=${report.task_mix} />` : null}
    <div class="columns">
      ${report.coverage ? html`<${CoveragePanel} coverage=${report.coverage} numTest=${report.num_test} />` : null}
      <${LikenessPanel} report=${report} />
    </div>
    <${CurvePanel} arrangement=${arrangement} />
  `;
}

function NoSimilarities() {
  return html`<div class="notice"><strong>Nothing is known of similarities</strong>
    <span>This order didn't need embeddings. Arranged with a representation, it is reported how far its rows are from the test set.</span></div>`;
}

/** Why it waits, or what it failed of. */
function Why({ arrangement }) {
  const { error, state, waits_for: waitsFor } = arrangement;
  if (error !== null) return html`<div class="notice bad"><strong>${error.title ?? "It failed"}</strong><span>${error.detail}</span></div>`;
  if (state !== "queued") return null;
  return html`<div class="notice wait">
    <strong>It waits</strong>
    ${waitsFor.length
      ? html`<span>For ${waitsFor.length === 1 ? "one run" : `${count(waitsFor.length)} runs`}, such as the embeddings of its datasets:${" "}
          ${waitsFor.slice(0, SHOWN_WAITS).map((each) => html`<code key=${each}>${each} </code>`)}${waitsFor.length > SHOWN_WAITS ? "…" : null}</span>
        <a href=${link("/")}>See the queue</a>`
      : html`<span>For a worker that arranges. <a href=${link("/")}>See the queue</a></span>`}
  </div>`;
}

function KeyNumbers({ arrangement }) {
  const { report } = arrangement;
  const leaks = report?.leaks.text.num_rows;
  const mostly = report?.coverage?.shares.at(-1);
  return html`<${Stats} items=${[
    ["Rows", count(arrangement.num_rows)],
    arrangement.num_rounds !== null && ["Rounds", count(arrangement.num_rounds)],
    report && ["Test rows", count(report.num_test)],
    report && ["Leaks", leaks === 0 ? "none" : count(leaks), leaks === 0 ? "no test row is in it" : `${percent(report.leaks.text.share)} of its rows`],
    report?.near_duplicates && ["Near duplicates", count(report.near_duplicates.num_rows), `above ${number(report.near_duplicates.threshold)}`],
    mostly && ["Median test row", number(mostly.percentiles[50], 3), "similarity to its nearest row"],
    ["Digest of the order", html`<${Copyable} text=${arrangement.digest} length=${16} name="the digest" />`],
  ]} />`;
}

function Settings({ arrangement }) {
  const { spec, id } = arrangement;
  const took = arrangement.started_at && arrangement.finished_at ? secondsBetween(arrangement.started_at, arrangement.finished_at) : null;
  return html`<${Panel} title="Settings" actions=${arrangement.state === "succeeded" && arrangement.report
    ? html`<${DownloadButton} path=${`/arrangements/${id}/figure.svg`} filename=${`${id}.svg`} label="Report as SVG" />
        <${DownloadButton} path=${`/arrangements/${id}/figure.png`} filename=${`${id}.png`} label="as PNG" />`
    : null}>
    <${Facts} items=${[
      ["Method", methodOf(spec.method).name],
      spec.order && ["Order", ordersOf(spec.method).find(([order]) => order === spec.order)?.[1]],
      ["Similarity", spec.similarity],
      ["Ordered are", spec.granularity === "coarse" ? "tasks" : "rows"],
      spec.select && ["Of each train task", `${count(spec.select.per_task)} rows, ${spec.select.how}`],
      spec.test_per_task !== null && ["Of each test task", `the first ${count(spec.test_per_task)} rows`],
      spec.limit !== null && ["Limit", count(spec.limit)],
      spec.rounds && ["Rounds", `${spec.rounds[0]} to ${spec.rounds[1] - 1}`],
      spec.method === "wsd" && ["Weights", `nearest ${number(spec.w_min)}, mean ${spec.w_avg === "auto" ? "balanced" : number(spec.w_avg)}`],
      spec.representation && ["Representation", `${spec.representation.model}, ${spec.representation.precision}`],
      ["Fidelity", spec.fidelity],
      took !== null && ["Took", duration(took)],
      ["Attempt", arrangement.attempt],
      ["Id", html`<${Copyable} text=${id} name="the id" />`],
    ]} />
    <details class="spec"><summary>The whole spec</summary><${Json} value=${spec} label="The arrangement's whole spec" /></details>
  <//>`;
}
