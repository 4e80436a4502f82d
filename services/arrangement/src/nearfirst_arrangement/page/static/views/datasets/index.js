/** Datasets: the list. */
import { Ago } from "../../components/basics.js";
import { View } from "../../components/layout.js";
import { Empty } from "../../components/states.js";
import { PagedTable } from "../../components/table.js";
import { usePages } from "../../core/data.js";
import { count } from "../../core/format.js";
import { html } from "../../core/ui.js";

function List() {
  const pages = usePages("/datasets", { order: "newest" });
  const columns = [
    { name: "Name", isHeader: true, show: (row) => row.name },
    { name: "Id", show: (row) => html`<code>${row.id}</code>` },
    { name: "Examples", isNumber: true, show: (row) => count(row.num_examples) },
    { name: "Tasks", isNumber: true, show: (row) => count(row.num_tasks) },
    { name: "Added", show: (row) => html`<${Ago} at=${row.created_at} />` },
  ];
  const empty = html`<${Empty} title="No datasets yet"><span>Register one with POST /datasets or the command line.</span><//>`;
  return html`<${View} title="Datasets">
    <section class="panel" aria-label="Datasets">
      <${PagedTable} pages=${pages} caption="Datasets, the newest first" columns=${columns} empty=${empty} noun="datasets" />
    </section>
  <//>`;
}

/** @type {import("../index.js").Area} */
export const area = { label: "Datasets", path: "/datasets", views: { "/datasets": List } };
