/** Arrangements: the list. */
import { StateBadge } from "../../components/basics.js";
import { View } from "../../components/layout.js";
import { Empty } from "../../components/states.js";
import { PagedTable } from "../../components/table.js";
import { usePages } from "../../core/data.js";
import { count } from "../../core/format.js";
import { html } from "../../core/ui.js";

function List() {
  const pages = usePages("/arrangements", { order: "newest" });
  const columns = [
    { name: "Arrangement", isHeader: true, show: (row) => html`<code>${row.id}</code>` },
    { name: "State", show: (row) => html`<${StateBadge} state=${row.state} />` },
    { name: "Rows", isNumber: true, show: (row) => count(row.num_rows) },
  ];
  const empty = html`<${Empty} title="No arrangements yet"><span>Make one with <code>nearfirst arrange</code> or POST /arrangements.</span><//>`;
  return html`<${View} title="Arrangements">
    <section class="panel" aria-label="Arrangements">
      <${PagedTable} pages=${pages} caption="Arrangements, the newest first" columns=${columns} empty=${empty} noun="arrangements" />
    </section>
  <//>`;
}

/** @type {import("../index.js").Area} */
export const area = { label: "Arrangements", path: "/arrangements", views: { "/arrangements": List } };
