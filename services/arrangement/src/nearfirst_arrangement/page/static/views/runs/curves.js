/** The curves of one training, live. */
import { Choice } from "../../components/basics.js";
import { Chart } from "../../components/chart.js";
import { Panel } from "../../components/layout.js";
import { Await } from "../../components/states.js";
import { slotsOf } from "../../core/colours.js";
import { useLiveReload, useLoaded } from "../../core/data.js";
import { setQuery, useRoute } from "../../core/router.js";
import { html, useMemo, useRef } from "../../core/ui.js";
import { MEASURES, loadCurves, measureOf, metricName, metricNames } from "./metrics.js";

const MOST_LINES = 12;
const MANY_STEPS = 20_000;

/** @param {{job: any}} props */
export function CurvesPanel({ job }) {
  const { query } = useRoute();
  const measure = measureOf(query.chart);
  const known = useRef([]);
  const load = async (signal) => {
    if (known.current.length === 0) known.current = await metricNames(job.id, signal);
    const names = measure.names(known.current);
    return { all: known.current, names, curves: await loadCurves(job.id, names.slice(0, MOST_LINES), signal) };
  };
  const loaded = useLoaded(load, [job.id, measure.id]);
  const everyMs = (job.progress?.total ?? 0) > MANY_STEPS ? 10_000 : 2000;
  useLiveReload(loaded.reload, (event) => event.run_id === job.id, everyMs);
  const all = loaded.data?.all ?? [];
  const options = MEASURES.filter((each) => each.id === measure.id || each.names(all).length > 0);
  return html`<${Panel} title="Curves" actions=${html`<${Choice} label="What is drawn" value=${measure.id}
      options=${options.map((each) => [each.id, each.words])} onChoose=${(id) => setQuery({ chart: id === MEASURES[0].id ? null : id })} />`}>
    <${Await} of=${loaded} isBlock>
      ${(data) => html`
        <${JobChart} jobId=${job.id} measure=${measure} curves=${data.curves} />
        ${data.names.length > MOST_LINES ? html`<p class="chart-note">The first ${MOST_LINES} of ${data.names.length} tasks.</p>` : null}
      `}
    <//>
  <//>`;
}

function JobChart({ jobId, measure, curves }) {
  const series = useMemo(() => linesOf(jobId, measure, curves), [jobId, measure, curves]);
  return html`<${Chart} label=${`${measure.words} of ${jobId}`} series=${series} xLabel="step" yLabel=${measure.yLabel}
    formatY=${measure.format} canLog=${measure.canLog} height=${320} empty="No measurement yet: they appear with the first step." />`;
}

function linesOf(jobId, measure, curves) {
  const names = [...curves.keys()];
  const slots = measure.id === "tasks" ? slotsOf(names) : null;
  const own = slotsOf([jobId]).get(jobId);
  return names.map((name) => ({
    key: name,
    label: metricName(name),
    ...curves.get(name),
    slot: slots?.get(name) ?? own,
    isThin: name === "train_loss",
    isDashed: name === "train_loss",
  }));
}
