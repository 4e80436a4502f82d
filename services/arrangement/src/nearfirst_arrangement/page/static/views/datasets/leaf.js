/** Leafing through numbered rows, some at a time. */
import { useJson } from "../../core/data.js";
import { count } from "../../core/format.js";
import { html, useEffect, useRef, useState } from "../../core/ui.js";

/**
 * Where a reader is in numbered rows.
 * @param {number} start first row
 * @param {unknown[]} inputs what the rows depend on: other ones begin anew
 * @returns {{start: number, canGoBack: boolean, next: (start: number) => void, back: (size: number) => void, jump: (start: number) => void}}
 */
export function useLeaf(start, inputs) {
  const [starts, setStarts] = useState([start]);
  useEffect(() => setStarts([start]), [start, ...inputs]);
  const at = starts.at(-1);
  return {
    start: at,
    canGoBack: starts.length > 1 || at > 0,
    next: (to) => setStarts([...starts, to]),
    back: (size) => setStarts(starts.length > 1 ? starts.slice(0, -1) : [Math.max(0, at - size)]),
    jump: (to) => setStarts([to]),
  };
}

/**
 * The rows of a page; those of the page before stay until the next are there, so that nothing jumps.
 * @param {string} path
 * @param {object} query
 * @returns {import("../../core/data.js").Loaded<any> & {isOld: boolean}}
 */
export function useLeafPage(path, query) {
  const loaded = useJson(path, query);
  const kept = useRef({ path, data: undefined });
  if (loaded.data !== undefined) kept.current = { path, data: loaded.data };
  const isOld = loaded.data === undefined && loaded.problem === null && kept.current.path === path;
  return isOld ? { ...loaded, data: kept.current.data, isOld } : { ...loaded, isOld };
}

/**
 * Buttons to leaf, what is shown, and a field to go to a row.
 * @param {{leaf: ReturnType<typeof useLeaf>, size: number, told: any, next: number | null, isOld: boolean, total: number, label: string}} props
 * `next`: first row after those that are shown, null: there is none; `isOld`: other rows are on their way; `label`: what a row's number is called
 */
export function LeafBar({ leaf, size, told, next, isOld, total, label }) {
  const go = (event) => {
    event.preventDefault();
    const wanted = Number(new FormData(event.currentTarget).get("row"));
    if (Number.isInteger(wanted)) leaf.jump(Math.min(Math.max(wanted, 0), Math.max(total - 1, 0)));
  };
  return html`<div class="leaf-bar">
    <div class="row">
      <button type="button" class="button small" disabled=${!leaf.canGoBack} onClick=${() => isOld || leaf.back(size)}>← Back</button>
      <button type="button" class="button small" disabled=${next === null} onClick=${() => isOld || leaf.next(next)}>Next →</button>
      <span class="quiet" role="status">${told}</span>
    </div>
    <form class="row" onSubmit=${go}>
      <label class="row quiet">${label}
        <input class="input leaf-number" name="row" type="number" min="0" max=${total - 1} required key=${leaf.start} value=${leaf.start} />
      </label>
      <button class="button small" aria-label=${`Go to this ${label}`}>Go</button>
    </form>
    <span class="visually-hidden">of ${count(total)}</span>
  </div>`;
}
