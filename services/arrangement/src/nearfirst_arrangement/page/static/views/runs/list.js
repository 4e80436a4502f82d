/** Train jobs, the newest first; some of them laid over each other. */
import { Ago, Progress, StateBadge } from "../../components/basics.js";
import { SearchFilter, StateFilter } from "../../components/filters.js";
import { View } from "../../components/layout.js";
import { RunLink } from "../../components/run_link.js";
import { Empty } from "../../components/states.js";
import { PagedTable } from "../../components/table.js";
import { useLiveReload, usePages } from "../../core/data.js";
import { duration, secondsBetween } from "../../core/format.js";
import { link, setQuery, useRoute } from "../../core/router.js";
import { html } from "../../core/ui.js";
import { ComparePanel, MOST_COMPARED, comparedIds } from "./compare.js";

/** The list, and above it the curves of those that are chosen. */
export function RunList() {
  const { query } = useRoute();
  const pages = usePages("/train-jobs", { order: "newest", state: query.state, text: query.text });
  useLiveReload(pages.reload, (event) => event.kind === "train_job", 2000);
  const compared = comparedIds(query);
  const toggle = (id) => {
    const next = compared.includes(id) ? compared.filter((each) => each !== id) : [...compared, id];
    setQuery({ compare: next.join(",") });
  };
  const isFiltered = Boolean(query.state || query.text);
  const empty = isFiltered
    ? html`<${Empty} title="No run fits"><a href=${link("/runs")}>Show all</a><//>`
    : html`<${Empty} title="No runs yet"><span>Start one with POST /train-jobs, or a study with <code>nearfirst study run</code>.</span><//>`;
  return html`<${View} title="Runs" hint="Trainings, the newest first. Choose some to lay their curves over each other.">
    ${compared.length ? html`<${ComparePanel} ids=${compared} onRemove=${toggle} />` : null}
    <div class="filters">
      <${SearchFilter} label="Find by id, model or data" value=${query.text} />
      <${StateFilter} value=${query.state} />
    </div>
    <section class="panel" aria-label="Runs">
      <${PagedTable} pages=${pages} caption="Train jobs, the newest first" columns=${columns(compared, toggle)} empty=${empty} noun="runs" />
    </section>
  <//>`;
}

function columns(compared, toggle) {
  const isFull = compared.length >= MOST_COMPARED;
  const choose = (job) => {
    const isChosen = compared.includes(job.id);
    return html`<input type="checkbox" class="choose" checked=${isChosen} disabled=${isFull && !isChosen}
      aria-label=${`Compare ${job.id}`} onChange=${() => toggle(job.id)} />`;
  };
  return [
    { name: "Compare", show: choose },
    { name: "Run", isHeader: true, show: (job) => html`<${RunLink} kind="train_job" id=${job.id} />` },
    { name: "State", show: (job) => html`<${StateBadge} state=${job.state} />` },
    { name: "Progress", show: (job) => html`<${Progress} progress=${job.progress} state=${job.state} label=${job.id} />` },
    { name: "Trains on", show: trainsOn },
    { name: "Model", show: (job) => html`<span title=${job.spec.model.name_or_path}>${lastPart(job.spec.model.name_or_path)}</span>` },
    { name: "Seed", isNumber: true, show: (job) => job.spec.seed },
    { name: "Took", isNumber: true, show: (job) => (job.started_at && job.finished_at ? duration(secondsBetween(job.started_at, job.finished_at)) : "") },
    { name: "Submitted", show: (job) => html`<${Ago} at=${job.created_at} />` },
  ];
}

function trainsOn({ spec }) {
  return spec.arrangement === null ? html`<code>${spec.dataset}</code>` : html`<${RunLink} kind="arrangement" id=${spec.arrangement} />`;
}

function lastPart(path) {
  return path.split("/").filter(Boolean).at(-1) ?? path;
}
