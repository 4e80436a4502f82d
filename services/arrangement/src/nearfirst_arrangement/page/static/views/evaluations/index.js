/** Evaluations: the list. */
import { StateBadge } from "../../components/basics.js";
import { View } from "../../components/layout.js";
import { Empty } from "../../components/states.js";
import { PagedTable } from "../../components/table.js";
import { usePages } from "../../core/data.js";
import { html } from "../../core/ui.js";

function List() {
  const pages = usePages("/evaluations", { order: "newest" });
  const columns = [
    { name: "Evaluation", isHeader: true, show: (row) => html`<code>${row.id}</code>` },
    { name: "State", show: (row) => html`<${StateBadge} state=${row.state} />` },
  ];
  const empty = html`<${Empty} title="No evaluations yet"><span>Start one with <code>nearfirst evaluate</code> or POST /evaluations.</span><//>`;
  return html`<${View} title="Evaluations">
    <section class="panel" aria-label="Evaluations">
      <${PagedTable} pages=${pages} caption="Evaluations, the newest first" columns=${columns} empty=${empty} noun="evaluations" />
    </section>
  <//>`;
}

/** @type {import("../index.js").Area} */
export const area = { label: "Evaluations", path: "/evaluations", views: { "/evaluations": List } };
