/** Studies, the newest first. */
import { Ago, Progress, StateBadge, Tag } from "../../components/basics.js";
import { SearchFilter, StateFilter } from "../../components/filters.js";
import { View } from "../../components/layout.js";
import { Empty } from "../../components/states.js";
import { PagedTable } from "../../components/table.js";
import { useLiveReload, usePages } from "../../core/data.js";
import { duration, secondsBetween } from "../../core/format.js";
import { link, useRoute } from "../../core/router.js";
import { html } from "../../core/ui.js";

const COLUMNS = [
  { name: "Study", isHeader: true, show: (study) => html`<a href=${link(`/studies/${study.id}`)}>${study.spec.name}</a>` },
  { name: "State", show: (study) => html`<${StudyState} study=${study} />` },
  { name: "Runs", show: (study) => html`<${Progress} progress=${study.progress} label=${study.spec.name} />` },
  { name: "Compares", show: (study) => html`<${Compared} spec=${study.spec} />` },
  { name: "Seeds", isNumber: true, show: (study) => study.spec.seeds.length },
  { name: "Trainings", isNumber: true, show: (study) => study.spec.seeds.length * study.spec.arrangements.length },
  { name: "Took", isNumber: true, show: (study) => (study.finished_at ? duration(secondsBetween(study.created_at, study.finished_at)) : "") },
  { name: "Begun", show: (study) => html`<${Ago} at=${study.created_at} />` },
];

/** A study's state: a paused one says so. @param {{study: any}} props */
export function StudyState({ study }) {
  return study.is_paused ? html`<span class="badge queued">paused</span>` : html`<${StateBadge} state=${study.state} />`;
}

/** The list with its filters. */
export function StudyList() {
  const { query } = useRoute();
  const pages = usePages("/studies", { order: "newest", state: query.state, name: query.name });
  useLiveReload(pages.reload, (event) => event.kind === "study", 2000);
  const begin = html`<a class="button primary" href=${link("/studies/new")}>New study</a>`;
  const empty = query.state || query.name
    ? html`<${Empty} title="No study fits"><a href=${link("/studies")}>Show all</a><//>`
    : html`<${Empty} title="No studies yet">
        <span>A study trains on your data in several orders, with several seeds each, and says which order helps.</span>
        <a class="button primary" href=${link("/studies/new")}>Start with a preset</a>
      <//>`;
  return html`<${View} title="Studies" hint="Which order of the training data helps, by how much, and how sure one can be." actions=${begin}>
    <div class="filters">
      <${SearchFilter} name="name" label="Find by name" value=${query.name} />
      <${StateFilter} value=${query.state} />
    </div>
    <section class="panel" aria-label="Studies">
      <${PagedTable} pages=${pages} caption="Studies, the newest first" columns=${COLUMNS} empty=${empty} noun="studies" />
    </section>
  <//>`;
}

const SHOWN = 3;

function Compared({ spec }) {
  const labels = spec.arrangements.map((arrangement) => arrangement.label);
  return html`<span class="tags" title=${labels.join(", ")}>
    ${labels.slice(0, SHOWN).map((label) => html`<${Tag} key=${label}>${label}<//>`)}
    ${labels.length > SHOWN ? html`<span class="quiet nowrap">and ${labels.length - SHOWN} more</span>` : null}
  </span>`;
}
