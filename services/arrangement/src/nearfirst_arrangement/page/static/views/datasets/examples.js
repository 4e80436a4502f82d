/** The examples of one dataset, to leaf through. */
import { Tag } from "../../components/basics.js";
import { Panel } from "../../components/layout.js";
import { Await, Empty } from "../../components/states.js";
import { count } from "../../core/format.js";
import { setQuery, useRoute } from "../../core/router.js";
import { html } from "../../core/ui.js";
import { Conversation } from "./conversation.js";
import { LeafBar, useLeaf, useLeafPage } from "./leaf.js";

const AT_A_TIME = 5;

/** @param {{dataset: any}} props */
export function ExamplesPanel({ dataset }) {
  const { query } = useRoute();
  const task = query.task ?? null;
  const leaf = useLeaf(startOf(query.row, dataset.num_examples), [dataset.id, task]);
  const page = useLeafPage(`/datasets/${encodeURIComponent(dataset.id)}/examples`, { start: leaf.start, limit: AT_A_TIME, task });
  const chosen = task === null ? null : html`<span class="chip">${task}
    <button type="button" class="button plain small" aria-label=${`Show all tasks, not only ${task}`} onClick=${() => setQuery({ task: null })}>✕</button>
  </span>`;
  const empty = html`<${Empty} title=${task === null ? "No more rows" : "No more rows of this task"}><span>From row ${count(leaf.start)} on there is none.</span><//>`;
  return html`<${Panel} title="Examples" actions=${chosen} hint="As they are trained on: what the user says, and what the model learns to answer.">
    <${Await} of=${page} lines=${12} empty=${empty} isEmpty=${(data) => data.items.length === 0}>
      ${(data) => html`<ol class="examples">${data.items.map((example) => html`<${Example} key=${example.id} example=${example} hasTask=${dataset.num_tasks > 1} />`)}</ol>`}
    <//>
    <${LeafBar} leaf=${leaf} size=${AT_A_TIME} total=${dataset.num_examples} label="row" told=${toldOf(page.data, dataset)} next=${nextOf(page.data)} isOld=${page.isOld} />
  <//>`;
}

/** One example with what names it. @param {{example: any, hasTask: boolean}} props */
function Example({ example, hasTask }) {
  return html`<li class="example">
    <div class="example-head">
      <span class="quiet">Row ${count(example.index)}</span>
      <code class="quiet">${example.id}</code>
      ${hasTask && example.task && !example.id.startsWith(`${example.task}/`) ? html`<${Tag}>${example.task}<//>` : null}
    </div>
    <${Conversation} example=${example} />
  </li>`;
}

function startOf(text, total) {
  const row = Number(text ?? 0);
  return Number.isInteger(row) && row >= 0 && row < total ? row : 0;
}

function nextOf(page) {
  return page?.next_cursor ? page.items.at(-1).index + 1 : null;
}

function toldOf(page, dataset) {
  if (!page?.items.length) return `${count(dataset.num_examples)} rows`;
  return `Rows ${count(page.items[0].index)} to ${count(page.items.at(-1).index)} of ${count(dataset.num_examples)}, counted from 0`;
}
