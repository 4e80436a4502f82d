/** Each arrangement against the baseline: in words, as intervals, and as numbers. */
import { Choice } from "../../components/basics.js";
import { Panel } from "../../components/layout.js";
import { Empty } from "../../components/states.js";
import { Table } from "../../components/table.js";
import { count, percent } from "../../core/format.js";
import { setQuery, useRoute } from "../../core/router.js";
import { html } from "../../core/ui.js";
import { intervalOf, metricInSentence, metricName, signedOf, valueOf } from "./metrics.js";

/** The metric that the address names; the study's first without one. @param {any} report @param {Record<string, string>} query */
export function chosenMetric(report, query) {
  const { metrics } = report.design;
  return metrics.includes(query.metric) ? query.metric : metrics[0];
}

/** Buttons for the metrics of a study. @param {{report: any}} props */
export function MetricChoice({ report }) {
  const { query } = useRoute();
  const { metrics } = report.design;
  if (metrics.length < 2) return null;
  return html`<${Choice} label="Metric" value=${chosenMetric(report, query)} options=${metrics.map((metric) => [metric, metricName(metric)])}
    onChoose=${(metric) => setQuery({ metric: metric === metrics[0] ? null : metric })} />`;
}

/** @param {{report: any}} props */
export function EffectsPanel({ report }) {
  const { query } = useRoute();
  const metric = chosenMetric(report, query);
  const effects = report.effects.filter((effect) => effect.metric === metric);
  const { reference } = report.design;
  const hint = `Each arrangement minus ${reference}, paired by seed and test example; ${percent(report.method.level)} intervals over both.`;
  return html`<${Panel} title="What it says" hint=${hint} actions=${html`<${MetricChoice} report=${report} />`}>
    ${effects.length === 0
      ? html`<${Empty} title="Nothing to compare yet"><span>An effect needs two arrangements that were measured at the same steps.</span><//>`
      : html`
          <ul class="answers">${effects.map((effect) => html`<${Answer} key=${effect.arrangement} effect=${effect} />`)}</ul>
          <${Table} caption=${`${metricName(metric)}: effects against ${reference}`} columns=${COLUMNS} rows=${rowsOf(effects)} keyOf=${(row) => row.key} isCompact />
        `}
  <//>`;
}

/** "nearest first is 0.31 lower than random …", with the interval drawn. */
function Answer({ effect }) {
  const { end } = effect;
  const span = spanOf(effect);
  return html`<li class=${`answer ${verdictClass(end.verdict)}`}>
    <p>${sentenceOf(effect)}</p>
    ${end.low === null ? null : html`<${Interval} found=${end} span=${span} />`}
  </li>`;
}

/**
 * An effect in plain words.
 * @param {any} effect one of a report's
 * @returns {any}
 */
export function sentenceOf(effect) {
  const { metric, arrangement, reference, end, area } = effect;
  const name = metricInSentence(metric);
  if (end.mean === null) return html`<strong>${arrangement}</strong>: too few test examples to compare its ${name} with that of ${reference}.`;
  const way = end.mean < 0 ? "lower" : "higher";
  const sides = { better: "better", worse: "worse", "not clear": "not clearly different" };
  const average = area.mean === null || area.verdict === "not clear"
    ? "On average over all steps the difference isn't clear."
    : `On average over all steps it is ${area.verdict} by ${valueOf(Math.abs(area.mean), metric)}.`;
  return html`<strong>${arrangement}</strong> ${`is ${sides[end.verdict]}: at step ${count(effect.end_step)} its ${name} is `}
    <strong>${valueOf(Math.abs(end.mean), metric)} ${way}</strong>
    ${` than that of ${reference}${end.low === null ? "" : `, 95 % interval ${intervalOf(end.low, end.high, metric)}`}. ${average}`}`;
}

const verdictClass = (verdict) => ({ better: "good", worse: "bad" })[verdict] ?? "unclear";

function spanOf(effect) {
  const values = [effect.end.low, effect.end.high, effect.end.mean].filter((value) => value !== null);
  return 1.25 * Math.max(...values.map(Math.abs), 1e-9);
}

/** The interval around its mean, with 0 in the middle. */
function Interval({ found, span }) {
  const place = (value) => 50 + (50 * value) / span;
  return html`<div class="interval" aria-hidden="true">
    <span class="interval-zero"></span>
    <span class="interval-bar" style=${{ left: `${place(found.low)}%`, width: `${Math.max(place(found.high) - place(found.low), 0.6)}%` }}></span>
    <span class="interval-mean" style=${{ left: `${place(found.mean)}%` }}></span>
  </div>`;
}

function rowsOf(effects) {
  return effects.flatMap((effect) => [
    { key: `${effect.arrangement} end`, effect, when: `step ${count(effect.end_step)}`, found: effect.end },
    { key: `${effect.arrangement} area`, effect, when: "all steps", found: effect.area },
  ]);
}

const COLUMNS = [
  { name: "Arrangement", isHeader: true, show: (row) => row.effect.arrangement },
  { name: "At", show: (row) => row.when },
  { name: "Verdict", show: (row) => html`<span class=${`verdict ${verdictClass(row.found.verdict)}`}>${row.found.verdict}</span>` },
  { name: "Difference", isNumber: true, show: (row) => signedOf(row.found.mean, row.effect.metric) },
  { name: "95 % interval", isNumber: true, show: (row) => html`<span class="nowrap">${intervalOf(row.found.low, row.found.high, row.effect.metric)}</span>` },
  { name: "Seeds as they are", isNumber: true, show: (row) => html`<span class="nowrap">${intervalOf(row.found.low_examples, row.found.high_examples, row.effect.metric)}</span>` },
  { name: "By seed", show: (row) => row.effect.seeds.map((seed, place) => `${seed}: ${signedOf(row.found.by_seed[place], row.effect.metric)}`).join(", ") },
];
