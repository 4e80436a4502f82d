/** One test row across checkpoints: prompt, references, and each checkpoint's answer with what it is worth. */
import { SelectFilter } from "../../components/filters.js";
import { Panel } from "../../components/layout.js";
import { Await, Empty } from "../../components/states.js";
import { getJson } from "../../core/api.js";
import { useJson, useLoaded } from "../../core/data.js";
import { count } from "../../core/format.js";
import { setQuery, useRoute } from "../../core/router.js";
import { html, useEffect, useRef } from "../../core/ui.js";
import { AnswerCard } from "./answer.js";

const MOST_ROWS = 1000;
const MOST_ANSWERS = 1000;

/** @param {{evaluation: any, path: string}} props */
export function ExamplesPanel({ evaluation, path }) {
  const { query } = useRoute();
  const task = query.rows || undefined;
  const isMeasured = evaluation.progress !== null && evaluation.progress.done > 0;
  const rows = useLoaded(async (signal) => (isMeasured ? rowsOf(path, task, signal) : []), [path, task, isMeasured]);
  const tasks = useRef([]);
  if (rows.data && !task) tasks.current = [...new Set(rows.data.map((row) => row.task))].filter(Boolean).sort();
  const empty = html`<${Empty} title="No answer yet"><span>Rows appear with the first checkpoint that is measured.</span><//>`;
  return html`<${Panel} title="Examples" hint="One test row, as each checkpoint takes it. With the arrow keys ← and → to the next one.">
    ${tasks.current.length > 1
      ? html`<div class="filters chart-filters"><${SelectFilter} name="rows" label="Rows of" value=${task ?? ""} all="All tasks" options=${tasks.current.map((each) => [each, each])} /></div>`
      : null}
    <${Await} of=${rows} empty=${empty} isBlock>
      ${(found) => html`<${Stepper} rows=${found} path=${path} />`}
    <//>
  <//>`;
}

async function rowsOf(path, task, signal) {
  try {
    const page = await getJson(`${path}/examples`, { task, limit: MOST_ROWS }, signal);
    return page.items.map(({ index, task: of, id }) => ({ index, task: of, id }));
  } catch (problem) {
    if (problem.code === "not_ready") return [];
    throw problem;
  }
}

/** Rows, one at a time; which one is in the address. */
function Stepper({ rows, path }) {
  const { query } = useRoute();
  const place = Math.max(0, rows.findIndex((row) => String(row.index) === query.row));
  const row = rows[place];
  const element = useRef(null);
  const step = (by) => {
    const next = rows[place + by];
    if (next) setQuery({ row: next.index });
  };
  useEffect(() => {
    const onKey = (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      const isElsewhere = event.target !== document.body && !element.current?.contains(event.target) && event.target.tagName !== "H1";
      if (by === undefined || event.altKey || event.ctrlKey || event.metaKey || isElsewhere || event.target.matches?.("input, select, textarea")) return;
      event.preventDefault();
      step(by);
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, [rows, place]);
  return html`<div ref=${element} class="form-stack">
    <div class="row stepper">
      <button type="button" class="button small" disabled=${place === 0} onClick=${() => step(-1)} aria-label="Previous row">← Previous</button>
      <span role="status" class="nowrap">Row <strong>${count(place + 1)}</strong> of ${count(rows.length)}</span>
      <button type="button" class="button small" disabled=${place === rows.length - 1} onClick=${() => step(1)} aria-label="Next row">Next →</button>
      ${row.task ? html`<span class="badge plain">${row.task}</span>` : null}
      <code class="quiet">${row.id}</code>
    </div>
    <${Answers} path=${path} index=${row.index} />
  </div>`;
}

function Answers({ path, index }) {
  const found = useJson(`${path}/examples`, { index, limit: MOST_ANSWERS });
  return html`<${Await} of=${found} isBlock>
    ${({ items }) => html`
      <div class="columns example-asked">
        <div><h3>Prompt</h3><p class="passage" tabindex="0">${items[0].instruction}</p></div>
        <div><h3>${items[0].references.length === 1 ? "Reference" : "References"}</h3>
          ${items[0].references.length
            ? items[0].references.map((reference, at) => html`<p class="passage" key=${at}>${reference}</p>`)
            : html`<p class="quiet">It has none.</p>`}</div>
      </div>
      <ul class="answer-cards">
        ${items.map((example) => html`<${AnswerCard} key=${example.step} example=${example} all=${items} />`)}
      </ul>
    `}
  <//>`;
}
