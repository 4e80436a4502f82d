/** Evaluations, the newest first; some of them laid over each other. */
import { Progress, StateBadge, Tag } from "../../components/basics.js";
import { SearchFilter, StateFilter } from "../../components/filters.js";
import { View } from "../../components/layout.js";
import { RunLink } from "../../components/run_link.js";
import { Empty } from "../../components/states.js";
import { PagedTable } from "../../components/table.js";
import { useLiveReload, usePages } from "../../core/data.js";
import { count } from "../../core/format.js";
import { link, setQuery, useRoute } from "../../core/router.js";
import { html } from "../../core/ui.js";
import { metricName } from "../studies/metrics.js";
import { CurvesPanel, MOST_COMPARED, comparedIds } from "./curves.js";

/** The list, and above it the curves of those that are chosen. */
export function EvaluationList() {
  const { query } = useRoute();
  const pages = usePages("/evaluations", { order: "newest", state: query.state, text: query.text });
  useLiveReload(pages.reload, (event) => event.kind === "evaluation", 2000);
  const compared = comparedIds(query);
  const toggle = (id) => setQuery({ compare: (compared.includes(id) ? compared.filter((each) => each !== id) : [...compared, id]).join(",") });
  const begin = html`<a class="button primary" href=${link("/evaluations/new")}>New evaluation</a>`;
  const empty = query.state || query.text
    ? html`<${Empty} title="No evaluation fits"><a href=${link("/evaluations")}>Show all</a><//>`
    : html`<${Empty} title="No evaluations yet">
        <span>An evaluation measures each checkpoint of a training on a test set: its loss, its answers and how good they are.</span>
        <a class="button primary" href=${link("/evaluations/new")}>Measure a training</a>
      <//>`;
  return html`<${View} title="Evaluations" hint="What checkpoints can do, the newest first. Choose some to lay their curves over each other." actions=${begin}>
    ${compared.length ? html`<${CurvesPanel} ids=${compared} onRemove=${toggle} />` : null}
    <div class="filters">
      <${SearchFilter} label="Find by id, training, dataset …" value=${query.text} />
      <${StateFilter} value=${query.state} />
    </div>
    <section class="panel" aria-label="Evaluations">
      <${PagedTable} pages=${pages} caption="Evaluations, the newest first" columns=${columns(compared, toggle)} empty=${empty} noun="evaluations" />
    </section>
  <//>`;
}

function columns(compared, toggle) {
  const isFull = compared.length >= MOST_COMPARED;
  const choose = ({ id }) => {
    const isChosen = compared.includes(id);
    return html`<input type="checkbox" class="choose" checked=${isChosen} disabled=${isFull && !isChosen} aria-label=${`Compare ${id}`} onChange=${() => toggle(id)} />`;
  };
  return [
    { name: "Compare", show: choose },
    { name: "Evaluation", isHeader: true, show: (row) => html`<${RunLink} kind="evaluation" id=${row.id} />` },
    { name: "State", show: (row) => html`<${StateBadge} state=${row.state} />` },
    { name: "Progress", show: (row) => html`<${Progress} progress=${row.progress} label=${row.id} />` },
    { name: "Measures", show: (row) => html`<span class="tags">${row.spec.metrics.map((metric) => html`<${Tag} key=${metric}>${metricName(metric)}<//>`)}</span>` },
    { name: "Checkpoints of", show: source },
    { name: "Test set", show: (row) => html`<a href=${link(`/datasets/${row.spec.test.dataset}`)}><code>${row.spec.test.dataset}</code></a>` },
    { name: "Checkpoints", isNumber: true, show: (row) => count(row.num_checkpoints) },
    { name: "Failed", isNumber: true, show: (row) => (row.num_failed ? html`<span class="verdict bad">${count(row.num_failed)}</span>` : "") },
  ];
}

/** Whose checkpoints are measured. @param {any} evaluation */
export function source({ spec }) {
  return spec.train_job === null ? `${count(spec.checkpoints.length)} folders` : html`<${RunLink} kind="train_job" id=${spec.train_job} />`;
}
