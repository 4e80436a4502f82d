/** How large the tasks of a dataset are. */
import { Panel } from "../../components/layout.js";
import { SearchFilter } from "../../components/filters.js";
import { Await, Empty } from "../../components/states.js";
import { usePages } from "../../core/data.js";
import { count } from "../../core/format.js";
import { setQuery, useRoute } from "../../core/router.js";
import { html } from "../../core/ui.js";

const AT_A_TIME = 20;
const SEARCHED_FROM = 20;

/** Bars, the largest first; choosing one shows its examples alone. @param {{dataset: any}} props */
export function TasksPanel({ dataset }) {
  const { query } = useRoute();
  const pages = usePages(`/datasets/${encodeURIComponent(dataset.id)}/tasks`, { text: query.tasks }, AT_A_TIME);
  const choose = (task) => setQuery({ task: task === query.task ? null : task, row: null });
  return html`<${Panel} title="Tasks" hint="Rows of each, the largest first. Choose one to read its examples.">
    ${dataset.num_tasks >= SEARCHED_FROM ? html`<div class="filters task-filter"><${SearchFilter} name="tasks" label="Find a task" value=${query.tasks} /></div>` : null}
    <${Await} of=${pages} lines=${8} empty=${html`<${Empty} title="No task fits" />`}>
      ${(sizes) => html`
        <ul class="bars">${sizes.map((each) => html`<${TaskBar} key=${each.task} size=${each} most=${sizes[0].num_rows} isChosen=${each.task === query.task} onChoose=${choose} />`)}</ul>
        ${pages.hasMore
          ? html`<button type="button" class="button small" disabled=${pages.isLoadingMore} onClick=${pages.loadMore}>${pages.isLoadingMore ? "Loading…" : "More tasks"}</button>`
          : null}
      `}
    <//>
  <//>`;
}

function TaskBar({ size, most, isChosen, onChoose }) {
  const inner = html`
    <span class="bar-name">${size.task || html`<em>no task named</em>`}</span>
    <span class="bar-count">${count(size.num_rows)}</span>
    <span class="bar" aria-hidden="true"><span style=${{ width: `${(100 * size.num_rows) / most}%` }}></span></span>`;
  if (!size.task) return html`<li><div class="bar-row">${inner}</div></li>`;
  return html`<li><button type="button" class="bar-row" aria-pressed=${String(isChosen)} onClick=${() => onChoose(size.task)}>${inner}</button></li>`;
}
