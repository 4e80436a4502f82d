import { StateBadge, Progress, Ago } from "../../components/basics.js";
import { SearchFilter, StateFilter } from "../../components/filters.js";
import { View } from "../../components/layout.js";
import { Empty } from "../../components/states.js";
import { PagedTable } from "../../components/table.js";
import { RunLink } from "../../components/run_link.js";
import { useLiveReload, usePages } from "../../core/data.js";
import { useRoute } from "../../core/router.js";
import { html } from "../../core/ui.js";

/** Train jobs, the newest first. */
export function RunList() {
  const { query } = useRoute();
  const pages = usePages("/train-jobs", { order: "newest", state: query.state, text: query.text });
  useLiveReload(pages.reload, (event) => event.kind === "train_job", 2000);
  const columns = [
    { name: "Run", isHeader: true, show: (job) => html`<${RunLink} kind="train_job" id=${job.id} />` },
    { name: "State", show: (job) => html`<${StateBadge} state=${job.state} />` },
    { name: "Progress", show: (job) => html`<${Progress} progress=${job.progress} label=${job.id} />` },
    { name: "Submitted", show: (job) => html`<${Ago} at=${job.created_at} />` },
  ];
  const empty = html`<${Empty} title="No runs"><span>Start one with <code>nearfirst train</code> or POST /train-jobs.</span><//>`;
  return html`<${View} title="Runs">
    <div class="filters"><${SearchFilter} label="Id, model, arrangement …" value=${query.text} /><${StateFilter} value=${query.state} /></div>
    <section class="panel" aria-label="Runs">
      <${PagedTable} pages=${pages} caption="Train jobs, the newest first" columns=${columns} empty=${empty} noun="runs" />
    </section>
  <//>`;
}
