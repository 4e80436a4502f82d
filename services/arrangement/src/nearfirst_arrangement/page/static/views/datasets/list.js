/** The list of datasets. */
import { Ago, Tag } from "../../components/basics.js";
import { SearchFilter } from "../../components/filters.js";
import { View } from "../../components/layout.js";
import { Empty } from "../../components/states.js";
import { PagedTable } from "../../components/table.js";
import { usePages } from "../../core/data.js";
import { count } from "../../core/format.js";
import { link, useRoute } from "../../core/router.js";
import { html } from "../../core/ui.js";
import { formatName } from "./formats.js";

const columns = [
  { name: "Name", isHeader: true, show: (row) => html`<a href=${link(`/datasets/${row.id}`)}>${row.name}</a>` },
  { name: "Format", show: (row) => html`<${Tag}>${formatName(row.format)}<//>` },
  { name: "Split", show: (row) => row.split },
  { name: "Rows", isNumber: true, show: (row) => count(row.num_examples) },
  { name: "Tasks", isNumber: true, show: (row) => count(row.num_tasks) },
  { name: "Id", show: (row) => html`<code class="quiet">${row.id}</code>` },
  { name: "Added", show: (row) => html`<${Ago} at=${row.created_at} />` },
];

/** The list, the newest first. */
export function DatasetList() {
  const { query } = useRoute();
  const pages = usePages("/datasets", { order: "newest", text: query.text });
  const add = html`<a class="button primary" href=${link("/datasets/new")}>Add a dataset</a>`;
  const empty = query.text
    ? html`<${Empty} title="No dataset fits"><a href=${link("/datasets")}>Show all</a><//>`
    : html`<${Empty} title="No datasets yet"><span>Add the rows that you train on, and those that you test with.</span>${add}<//>`;
  return html`<${View} title="Datasets" hint="What is trained on, and what it is tested with. A dataset never changes once it is here." actions=${add}>
    <div class="filters"><${SearchFilter} label="Find by name or id" value=${query.text} /></div>
    <section class="panel" aria-label="Datasets">
      <${PagedTable} pages=${pages} caption="Datasets, the newest first" columns=${columns} empty=${empty} noun="datasets" />
    </section>
  <//>`;
}
