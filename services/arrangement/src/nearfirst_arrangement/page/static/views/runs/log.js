/** The last lines that a training printed, followed as they come. */
import { Panel } from "../../components/layout.js";
import { Await, Empty } from "../../components/states.js";
import { getJson } from "../../core/api.js";
import { useLiveReload, useLoaded } from "../../core/data.js";
import { count } from "../../core/format.js";
import { html, useEffect, useRef } from "../../core/ui.js";

const KEPT = 2000;
const PAGE = 1000;

/** @param {{job: any}} props */
export function LogPanel({ job }) {
  const tail = useRef({ cursor: null, whole: [], rest: [], num: 0 });
  const loaded = useLoaded((signal) => readOn(job.id, tail.current, signal), [job.id]);
  useLiveReload(loaded.reload, (event) => event.run_id === job.id, 2000);
  return html`<${Panel} title="Log" hint=${loaded.data?.num > KEPT ? `The last ${count(KEPT)} of ${count(loaded.data.num)} lines` : null}>
    <${Await} of=${loaded} lines=${6} isEmpty=${(data) => data.lines.length === 0} empty=${html`<${Empty} title="Nothing printed yet" />`}>
      ${(data) => html`<${Lines} lines=${data.lines} />`}
    <//>
  <//>`;
}

/** Stays at the end while the end is in sight. */
function Lines({ lines }) {
  const element = useRef(null);
  const isAtEnd = useRef(true);
  useEffect(() => {
    if (isAtEnd.current) element.current.scrollTop = element.current.scrollHeight;
  }, [lines]);
  const note = ({ currentTarget: box }) => {
    isAtEnd.current = box.scrollHeight - box.scrollTop - box.clientHeight < 24;
  };
  return html`<pre class="code-block log" ref=${element} onScroll=${note} tabindex="0" role="log" aria-live="off" aria-label="What training printed">${lines.join("\n")}</pre>`;
}

/**
 * Read what was printed since: whole pages are read once, the last one, which grows, each time.
 * @param {string} jobId
 * @param {{cursor: string | null, whole: string[], rest: string[], num: number}} tail changed
 * @param {AbortSignal} signal
 */
async function readOn(jobId, tail, signal) {
  for (;;) {
    const page = await getJson(`/train-jobs/${encodeURIComponent(jobId)}/logs`, { cursor: tail.cursor, limit: PAGE }, signal);
    const lines = page.items.map((item) => item.line);
    if (page.next_cursor === null) {
      tail.rest = lines;
      return { lines: [...tail.whole, ...tail.rest].slice(-KEPT), num: tail.num + lines.length };
    }
    tail.whole = [...tail.whole, ...lines].slice(-KEPT);
    tail.num += lines.length;
    tail.cursor = page.next_cursor;
  }
}
