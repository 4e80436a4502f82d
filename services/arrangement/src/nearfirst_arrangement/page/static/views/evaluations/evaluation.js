/** One evaluation: its units, its curves, and what the checkpoints answered. */
import { Copyable, Facts, Json, Progress, StateBadge, Stats } from "../../components/basics.js";
import { ConfirmButton } from "../../components/dialogs.js";
import { Panel, View } from "../../components/layout.js";
import { Await } from "../../components/states.js";
import { announce } from "../../core/announce.js";
import { postJson } from "../../core/api.js";
import { useJson, useLiveReload } from "../../core/data.js";
import { count } from "../../core/format.js";
import { link, setQuery, useRoute } from "../../core/router.js";
import { html } from "../../core/ui.js";
import { metricName } from "../studies/metrics.js";
import { CompareWith } from "./compare_with.js";
import { CurvesPanel, comparedIds } from "./curves.js";
import { ExamplesPanel } from "./examples.js";
import { source } from "./list.js";
import { UnitsPanel } from "./units.js";

/** @param {{id: string}} props */
export function EvaluationView({ id }) {
  const { query } = useRoute();
  const path = `/evaluations/${encodeURIComponent(id)}`;
  const evaluation = useJson(path);
  useLiveReload(evaluation.reload, (event) => event.run_id === id, 1500);
  const others = comparedIds(query).filter((each) => each !== id);
  const remove = (gone) => setQuery({ compare: others.filter((each) => each !== gone).join(",") });
  const heading = evaluation.data ? html`<${StateBadge} state=${evaluation.data.state} />` : null;
  return html`<${View} title=${id} heading=${heading} crumbs=${[["Evaluations", "/evaluations"]]}
      actions=${evaluation.data ? html`<${Actions} evaluation=${evaluation.data} path=${path} onChange=${evaluation.reload} />` : null}>
    <${Await} of=${evaluation} isBlock>
      ${(data) => html`
        <${Why} evaluation=${data} />
        <${Numbers} evaluation=${data} />
        <${CurvesPanel} ids=${[id, ...others]} own=${id} onRemove=${remove} />
        <${CompareWith} id=${id} others=${others} />
        <${ExamplesPanel} evaluation=${data} path=${path} />
        <${UnitsPanel} evaluation=${data} path=${path} />
        <${Settings} evaluation=${data} />
      `}
    <//>
  <//>`;
}

function Actions({ evaluation, path, onChange }) {
  const done = (words) => {
    announce(words);
    onChange();
  };
  if (["queued", "running"].includes(evaluation.state)) {
    return html`<${ConfirmButton} key="cancel" label="Cancel" kind="danger" title="Cancel this evaluation?" confirm="Cancel the evaluation"
      question="It ends now, and with it what no other evaluation needs. What was measured stays, and it can be resumed."
      act=${() => postJson(`${path}/cancel`)} onDone=${() => done("The evaluation is cancelled.")} />`;
  }
  if (["failed", "cancelled"].includes(evaluation.state)) {
    return html`<${ConfirmButton} key="resume" label="Resume" kind="primary" title="Resume this evaluation?" confirm="Resume the evaluation"
      question="What failed or was cancelled is tried again; what was measured isn't done twice."
      act=${() => postJson(`${path}/resume`)} onDone=${() => done("The evaluation goes on.")} />`;
  }
  return null;
}

function Why({ evaluation }) {
  const { error, note, waits_because: waits } = evaluation;
  return html`
    ${error ? html`<div class="notice bad"><strong>${error.title ?? "It failed"}</strong><span>${error.detail}</span></div>` : null}
    ${note ? html`<div class="notice wait"><strong>To know</strong><span>${note}</span></div>` : null}
    ${waits ? html`<div class="notice wait"><strong>It waits</strong><span>${waits}</span></div>` : null}
  `;
}

function Numbers({ evaluation }) {
  const { progress } = evaluation;
  const isOver = ["succeeded", "failed", "cancelled"].includes(evaluation.state);
  return html`
    <${Stats} items=${[
      ["Checkpoints", count(evaluation.num_checkpoints)],
      ["Measured", progress ? count(progress.done) : "–", progress?.total ? `of ${count(progress.total)} units` : ""],
      ["Failed", count(evaluation.num_failed)],
    ]} />
    ${isOver ? null : html`<${Progress} progress=${progress} label="Units" />`}
  `;
}

function Settings({ evaluation }) {
  const { spec } = evaluation;
  const { generation } = spec;
  const answers = spec.metrics.some((metric) => metric !== "loss");
  return html`<${Panel} title="Settings">
    <${Facts} items=${[
      ["Checkpoints of", source(evaluation)],
      ["Test set", html`<a href=${link(`/datasets/${spec.test.dataset}`)}><code>${spec.test.dataset}</code></a>`],
      ["Measures", spec.metrics.map(metricName).join(", ")],
      ["Tasks", spec.test.tasks?.join(", ") ?? "all"],
      ["Examples", spec.num_examples === null ? "all" : `${count(spec.num_examples)}, drawn with seed ${spec.seed}`],
      ["Checkpoints", spec.every === null ? "all" : `each ${count(spec.every)} steps`],
      ["Template", spec.template],
      answers && ["Answers", generation.temperature ? `sampled at temperature ${generation.temperature}` : "greedy"],
      answers && ["Longest answer", `${count(generation.max_new_tokens)} tokens`],
      spec.metrics.includes("reward") && ["Reward model", spec.reward.model],
      ["Fidelity", spec.fidelity],
      ["Id", html`<${Copyable} text=${evaluation.id} name="the id" />`],
    ]} />
    <details class="spec"><summary>The whole spec</summary><${Json} value=${spec} label="The evaluation's whole spec" /></details>
  <//>`;
}
