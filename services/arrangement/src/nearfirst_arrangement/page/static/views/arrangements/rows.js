/** The order's rows with their texts, each beside the test row that it is nearest to. */
import { Choice, Tag } from "../../components/basics.js";
import { Panel } from "../../components/layout.js";
import { Await, Empty } from "../../components/states.js";
import { count, number } from "../../core/format.js";
import { setQuery, useRoute } from "../../core/router.js";
import { html } from "../../core/ui.js";
import { Conversation } from "../datasets/conversation.js";
import { LeafBar, useLeaf, useLeafPage } from "../datasets/leaf.js";

const AT_A_TIME = 3;

/** @param {{arrangement: any}} props */
export function RowsPanel({ arrangement }) {
  const { query } = useRoute();
  const total = arrangement.num_rows;
  const leaf = useLeaf(startOf(query, total), [arrangement.id]);
  const page = useLeafPage(`/arrangements/${encodeURIComponent(arrangement.id)}/examples`, { start: leaf.start, limit: AT_A_TIME });
  const items = page.data?.items ?? [];
  const first = items[0]?.row.position ?? leaf.start;
  const following = first + items.length;
  const jump = (to) => {
    const ends = { first: 0, middle: Math.floor((total - AT_A_TIME) / 2), last: total - AT_A_TIME };
    leaf.jump(Math.max(0, ends[to]));
    setQuery({ from: to === "first" ? null : to, position: null });
  };
  const chooser = html`<${Choice} label="Part of the order" value=${partOf(leaf.start, total)} onChoose=${jump}
    options=${[["first", "First rows"], ["middle", "Middle"], ["last", "Last rows"]]} />`;
  return html`<div id="rows-panel"><${Panel} title="Its rows" actions=${chooser} hint="What is trained on, and the test row that it is nearest to. How similar are they really?">
    <${Await} of=${page} lines=${12} empty=${html`<${Empty} title="No more rows" />`} isEmpty=${(data) => data.items.length === 0}>
      ${(data) => html`<ol class="examples">${data.items.map((item) => html`<${Pair} key=${item.row.position} item=${item} />`)}</ol>`}
    <//>
    <${LeafBar} leaf=${leaf} size=${AT_A_TIME} total=${total} label="position"
      told=${items.length ? `Positions ${count(first)} to ${count(following - 1)} of ${count(total)}, counted from 0` : `${count(total)} rows`}
      next=${items.length && following < total ? following : null} isOld=${page.isOld} />
  <//></div>`;
}

/** A train row and its nearest test row side by side. @param {{item: any}} props */
function Pair({ item }) {
  const { row, example, nearest_test: nearest } = item;
  return html`<li class="example">
    <div class="example-head">
      <strong>Position ${count(row.position)}</strong>
      ${row.nearest_similarity === null ? null : html`<${Likeness} similarity=${row.nearest_similarity} />`}
      ${row.round === null ? null : html`<span class="quiet">round ${count(row.round)}</span>`}
      ${row.score === null ? null : html`<span class="quiet">score ${number(row.score, 4)}</span>`}
    </div>
    <div class=${nearest ? "pair" : ""}>
      <div class="pair-side">
        <span class="pair-name">Train row ${" "}<code>${row.id}</code>${row.task && !row.id.startsWith(`${row.task}/`) ? html` <${Tag}>${row.task}<//>` : null}</span>
        <${Conversation} example=${example} />
      </div>
      ${nearest
        ? html`<div class="pair-side">
            <span class="pair-name">Nearest test row ${" "}<code>${nearest.id}</code></span>
            <${Conversation} example=${nearest} />
          </div>`
        : null}
    </div>
  </li>`;
}

/** A cosine similarity as a number and a bar. @param {{similarity: number}} props */
function Likeness({ similarity }) {
  return html`<span class="likeness" title="Cosine similarity to its nearest test row">
    <span class="likeness-bar" aria-hidden="true"><span style=${{ width: `${100 * Math.min(Math.max(similarity, 0), 1)}%` }}></span></span>
    similarity ${number(similarity, 3)}
  </span>`;
}

function startOf(query, total) {
  if (query.from === "last") return Math.max(0, total - AT_A_TIME);
  if (query.from === "middle") return Math.max(0, Math.floor((total - AT_A_TIME) / 2));
  const position = Number(query.position ?? 0);
  return query.from === "position" && Number.isInteger(position) ? Math.min(Math.max(position, 0), total - 1) : 0;
}

function partOf(start, total) {
  if (start === 0) return "first";
  if (start >= total - AT_A_TIME) return "last";
  return start === Math.floor((total - AT_A_TIME) / 2) ? "middle" : "";
}
