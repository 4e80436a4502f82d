/** What stands where data isn't: loading, empty, wrong. */
import { html } from "../core/ui.js";

/** Grey lines in place of what is loading. @param {{lines?: number, isBlock?: boolean}} props isBlock: a chart */
export function Skeleton({ lines = 5, isBlock = false }) {
  const spans = Array.from({ length: isBlock ? 1 : lines }, (_, at) => html`<span key=${at}></span>`);
  return html`<div class=${isBlock ? "skeleton block" : "skeleton"} role="status">
    <span class="visually-hidden">Loading</span>${spans}
  </div>`;
}

/** Nothing here yet, and what to do about it. @param {{title: string, children?: any}} props */
export function Empty({ title, children }) {
  return html`<div class="empty"><strong>${title}</strong>${children}</div>`;
}

/**
 * What went wrong, in the API's words.
 * @param {{problem: import("../core/api.js").Problem, onRetry?: () => void, title?: string}} props
 */
export function ProblemNotice({ problem, onRetry, title }) {
  const fields = problem.errors ?? [];
  return html`<div class="notice bad" role="alert">
    <strong>${title ?? problem.title ?? "This went wrong"}</strong>
    <span>${problem.message}</span>
    ${fields.length > 1
      ? html`<ul>${fields.map((each) => html`<li key=${each.field}><code>${each.field}</code>: ${each.wanted}</li>`)}</ul>`
      : null}
    ${onRetry ? html`<button type="button" class="button small" onClick=${onRetry}>Try again</button>` : null}
  </div>`;
}

/**
 * What was loaded, or what stands in its place. `children` is a function of the data.
 * @param {{of: import("../core/data.js").Loaded<any>, children: (data: any) => any, empty?: any, isEmpty?: (data: any) => boolean,
 *   lines?: number, isBlock?: boolean}} props
 * `empty`: shown when `isEmpty` (by default: an empty list) says so
 */
export function Await({ of, children, empty, isEmpty = (data) => Array.isArray(data) && data.length === 0, lines, isBlock }) {
  const show = Array.isArray(children) ? children[0] : children;
  if (of.data === undefined) {
    if (of.problem) return html`<${ProblemNotice} problem=${of.problem} onRetry=${of.reload} />`;
    return html`<${Skeleton} lines=${lines} isBlock=${isBlock} />`;
  }
  return html`
    ${of.problem && of.problem.status !== 0 ? html`<${ProblemNotice} problem=${of.problem} onRetry=${of.reload} title="What is shown is old" />` : null}
    ${empty !== undefined && isEmpty(of.data) ? empty : show(of.data)}
  `;
}
