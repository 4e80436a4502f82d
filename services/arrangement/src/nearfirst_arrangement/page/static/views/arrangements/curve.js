/** How far what was trained on so far is from the test set: nine measures. */
import { Chart } from "../../components/chart.js";
import { Panel } from "../../components/layout.js";
import { Await } from "../../components/states.js";
import { slotsOf } from "../../core/colours.js";
import { useJson } from "../../core/data.js";
import { count, number } from "../../core/format.js";
import { setQuery, useRoute } from "../../core/router.js";
import { html, useMemo } from "../../core/ui.js";

const PAIRS = [["avg", "mean of all pairs"], ["min", "nearest pair"], ["max", "farthest pair"], ["centroid", "between the centres"]];
const SPACES = [["cosine", "cosine"], ["euclidean", "euclidean"]];

/** Id, words and axis of each measure. */
const MEASURES = [
  ...SPACES.flatMap(([space, name]) => PAIRS.map(([pair, words]) => ({ id: `${space}.${pair}`, space, pair, words: `${name}, ${words}`, yLabel: `${name} distance` }))),
  { id: "kl", words: "KL divergence of bigrams", yLabel: "KL, nats" },
];

/** @param {{arrangement: any}} props */
export function CurvePanel({ arrangement }) {
  const { query } = useRoute();
  const loaded = useJson(`/arrangements/${encodeURIComponent(arrangement.id)}/similarity-curve`);
  const offered = loaded.data ? MEASURES.filter((each) => valuesOf(loaded.data, each) !== null) : [];
  const measure = offered.find((each) => each.id === query.measure) ?? offered[0];
  const chooser = offered.length
    ? html`<label class="row quiet">Measure
        <select class="input" value=${measure.id} onChange=${(event) => setQuery({ measure: event.currentTarget.value })}>
          ${offered.map((each) => html`<option key=${each.id} value=${each.id} selected=${each.id === measure.id}>${each.words}</option>`)}
        </select>
      </label>`
    : null;
  return html`<${Panel} title="Similarity curve" actions=${chooser} hint="Between the test set and all that was trained on up to each point. Lower is nearer.">
    <${Await} of=${loaded} isBlock>
      ${(curve) => (measure ? html`<${CurveChart} curve=${curve} measure=${measure} id=${arrangement.id} />` : html`<div class="chart-empty">No measure could be taken of these rows.</div>`)}
    <//>
  <//>`;
}

function CurveChart({ curve, measure, id }) {
  const series = useMemo(() => linesOf(curve, measure, id), [curve, measure.id, id]);
  return html`<${Chart} label=${`Similarity curve, ${measure.words}`} series=${series} xLabel="rows trained on" yLabel=${measure.yLabel} canLog=${measure.id === "kl"} formatY=${(y) => number(y, 4)} />
    <p class="chart-note">A point every ${count(curve.every_steps)} steps of ${count(curve.rows_per_step)} rows; ${count(curve.num_test)} test rows.</p>`;
}

function valuesOf(curve, measure) {
  if (measure.id === "kl") return curve.kl;
  return curve[measure.space]?.[measure.pair] ?? null;
}

function linesOf(curve, measure, id) {
  const whole = { key: "all", label: "all test rows", x: curve.rows, y: valuesOf(curve, measure), slot: slotsOf([id]).get(id) };
  if (measure.space !== "cosine" || curve.by_task.length < 2) return [whole];
  const tasks = curve.by_task.slice(0, 6);
  const slots = slotsOf([id, ...tasks.map((each) => each.task)]);
  return [whole, ...tasks.map((each) => ({ key: `task ${each.task}`, label: each.task || "no task named", x: curve.rows, y: each.cosine[measure.pair], slot: slots.get(each.task), isThin: true }))];
}
