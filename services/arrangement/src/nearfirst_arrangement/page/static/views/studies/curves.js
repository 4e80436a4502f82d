/** Mean curves over seeds, with the seeds' range as a band; and the figure as the report has it. */
import { Choice } from "../../components/basics.js";
import { Chart } from "../../components/chart.js";
import { Figure } from "../../components/figure.js";
import { Panel } from "../../components/layout.js";
import { slotsOf } from "../../core/colours.js";
import { count, number } from "../../core/format.js";
import { setQuery, useRoute } from "../../core/router.js";
import { html, useMemo } from "../../core/ui.js";
import { chosenMetric } from "./effects.js";
import { metricInSentence, metricName, unitOf } from "./metrics.js";

const KINDS = [["curves", "Curves"], ["effects", "Differences"], ["figure", "Figure"]];

/** @param {{report: any, path: string}} props */
export function CurvesPanel({ report, path }) {
  const { query } = useRoute();
  const metric = chosenMetric(report, query);
  const kind = KINDS.find(([each]) => each === query.chart)?.[0] ?? "curves";
  const choice = html`<${Choice} label="What is drawn" value=${kind} options=${KINDS} onChoose=${(each) => setQuery({ chart: each === "curves" ? null : each })} />`;
  const hints = {
    curves: "Means over seeds; the band goes from the lowest to the highest seed.",
    effects: `Each arrangement minus ${report.design.reference}; the band is the pointwise ${100 * report.method.level} % interval.`,
    figure: "As the report has it, of what was measured so far.",
  };
  return html`<${Panel} title=${kind === "figure" ? "Figure" : metricName(metric)} hint=${hints[kind]} actions=${choice}>
    ${kind === "figure"
      ? html`<${Figure} path=${`${path}/figure.svg`} alt=${`The figure of the study ${report.name}; its numbers are in the tables of this view.`} />`
      : html`<${Lines} report=${report} metric=${metric} kind=${kind} />`}
  <//>`;
}

function Lines({ report, metric, kind }) {
  const series = useMemo(() => linesOf(report, metric, kind), [report, metric, kind]);
  const name = metricName(metric);
  return html`<${Chart} label=${kind === "curves" ? `${name} over steps` : `${name} minus that of ${report.design.reference}`} series=${series}
    xLabel="step" yLabel=${kind === "curves" ? `${metricInSentence(metric)}, ${unitOf(metric)}` : "difference"} canLog=${kind === "curves" && metric === "loss"} height=${340}
    formatX=${count} formatY=${number} empty=${kind === "curves" ? "Nothing is measured yet." : "There is nothing to compare yet."} />`;
}

function linesOf(report, metric, kind) {
  const slots = slotsOf(report.arrangements.map((each) => slotKey(each.label)));
  const found = (kind === "curves" ? report.outcomes : report.effects).filter((each) => each.metric === metric && each.steps.length > 0);
  return found.map((each) => ({
    key: each.arrangement,
    label: each.arrangement,
    x: each.steps,
    y: each.mean,
    slot: slots.get(slotKey(each.arrangement)),
    ...(hasBand(each) ? { low: each.low, high: each.high } : {}),
  }));
}

const slotKey = (label) => `arrangement ${label}`;
const hasBand = ({ low, high }) => low.some((value, at) => value !== null && value !== high[at]);
