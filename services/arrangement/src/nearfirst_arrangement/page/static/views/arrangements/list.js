/** The list of arrangements; two of them compared above it. */
import { Ago, Progress, StateBadge } from "../../components/basics.js";
import { SearchFilter, StateFilter } from "../../components/filters.js";
import { View } from "../../components/layout.js";
import { Empty } from "../../components/states.js";
import { PagedTable } from "../../components/table.js";
import { useLiveReload, usePages } from "../../core/data.js";
import { count } from "../../core/format.js";
import { link, setQuery, useRoute } from "../../core/router.js";
import { html } from "../../core/ui.js";
import { DatasetName } from "../datasets/names.js";
import { Compare } from "./compare.js";
import { isSeeded, title } from "./methods.js";

const COMPARED = 2;

/** The list, the newest first. */
export function ArrangementList() {
  const { query } = useRoute();
  const pages = usePages("/arrangements", { order: "newest", state: query.state, text: query.text });
  useLiveReload(pages.reload, (event) => event.kind === "arrangement", 2000);
  const compared = [...new Set((query.compare ?? "").split(",").filter(Boolean))].slice(0, COMPARED);
  const toggle = (id) => {
    const next = compared.includes(id) ? compared.filter((each) => each !== id) : [...compared, id];
    setQuery({ compare: next.join(",") });
  };
  const add = html`<a class="button primary" href=${link("/arrangements/new")}>New arrangement</a>`;
  const empty = query.state || query.text
    ? html`<${Empty} title="No arrangement fits"><a href=${link("/arrangements")}>Show all</a><//>`
    : html`<${Empty} title="No arrangements yet"><span>An arrangement puts a dataset into the order in which it is trained on.</span>${add}<//>`;
  return html`<${View} title="Arrangements" hint="Orders in which datasets are trained on. Choose two to compare them." actions=${add}>
    ${compared.length ? html`<${Compare} ids=${compared} onRemove=${toggle} onDone=${() => setQuery({ compare: null })} />` : null}
    <div class="filters">
      <${SearchFilter} label="Find by id, method, order, dataset …" value=${query.text} />
      <${StateFilter} value=${query.state} />
    </div>
    <section class="panel" aria-label="Arrangements">
      <${PagedTable} pages=${pages} caption="Arrangements, the newest first" columns=${columns(compared, toggle)} empty=${empty} noun="arrangements" />
    </section>
  <//>`;
}

function columns(compared, toggle) {
  const choose = (row) => {
    const isChosen = compared.includes(row.id);
    return html`<input type="checkbox" class="choose" checked=${isChosen} disabled=${row.state !== "succeeded" || (compared.length >= COMPARED && !isChosen)}
      aria-label=${`Compare ${title(row.spec)}, ${row.id}`} onChange=${() => toggle(row.id)} />`;
  };
  return [
    { name: "Compare", show: choose },
    { name: "Arrangement", isHeader: true, show: named },
    { name: "State", show: (row) => html`<${StateBadge} state=${row.state} />` },
    { name: "Progress", show: (row) => (row.state === "running" ? html`<${Progress} progress=${row.progress} label=${row.id} />` : null) },
    { name: "Arranges", show: (row) => html`<${DatasetName} id=${row.spec.train.dataset} tasks=${row.spec.train.tasks} />` },
    { name: "For", show: (row) => html`<${DatasetName} id=${row.spec.test.dataset} tasks=${row.spec.test.tasks} />` },
    { name: "Rows", isNumber: true, show: (row) => (row.num_rows === null ? "" : count(row.num_rows)) },
    { name: "Asked for", show: (row) => html`<${Ago} at=${row.created_at} />` },
  ];
}

function named(row) {
  return html`<span><a href=${link(`/arrangements/${row.id}`)}>${title(row.spec)}</a>${isSeeded(row.spec) ? html`, seed ${row.spec.seed}` : null}
    <br /><code class="quiet">${row.id}</code></span>`;
}
