/** Studies: the list. */
import { Ago, StateBadge } from "../../components/basics.js";
import { View } from "../../components/layout.js";
import { Empty } from "../../components/states.js";
import { PagedTable } from "../../components/table.js";
import { usePages } from "../../core/data.js";
import { html } from "../../core/ui.js";

function List() {
  const pages = usePages("/studies", { order: "newest" });
  const columns = [
    { name: "Study", isHeader: true, show: (row) => row.spec.name },
    { name: "State", show: (row) => html`<${StateBadge} state=${row.state} />` },
    { name: "Begun", show: (row) => html`<${Ago} at=${row.created_at} />` },
  ];
  const empty = html`<${Empty} title="No studies yet"><span>Start one with <code>nearfirst study run</code> or POST /studies.</span><//>`;
  return html`<${View} title="Studies">
    <section class="panel" aria-label="Studies">
      <${PagedTable} pages=${pages} caption="Studies, the newest first" columns=${columns} empty=${empty} noun="studies" />
    </section>
  <//>`;
}

/** @type {import("../index.js").Area} */
export const area = { label: "Studies", path: "/studies", views: { "/studies": List } };
