/** Tables and paged lists. */
import { html } from "../core/ui.js";
import { count } from "../core/format.js";
import { Await } from "./states.js";

/**
 * @typedef {{name: string, show: (row: any) => any, isNumber?: boolean, isHeader?: boolean}} Column
 * `isHeader`: names its row
 */

/**
 * Rows under columns; on a narrow screen each row is a card.
 * @param {{caption: string, columns: Column[], rows: any[], keyOf?: (row: any) => string | number, isCompact?: boolean, isCards?: boolean}} props
 * `caption`: for screen readers
 */
export function Table({ caption, columns, rows, keyOf = (row) => row.id, isCompact = false, isCards = true }) {
  const kind = `table${isCompact ? " compact" : ""}${isCards ? " cards" : ""}`;
  return html`<div class="table-scroll" tabindex=${isCards ? undefined : "0"} role=${isCards ? undefined : "region"} aria-label=${isCards ? undefined : caption}>
    <table class=${kind}>
      <caption class="visually-hidden">${caption}</caption>
      <thead>
        <tr>${columns.map((column) => html`<th scope="col" key=${column.name} class=${column.isNumber ? "number" : ""}>${column.name}</th>`)}</tr>
      </thead>
      <tbody>${rows.map((row) => html`<tr key=${keyOf(row)}>${columns.map((column) => cell(column, row))}</tr>`)}</tbody>
    </table>
  </div>`;
}

function cell(column, row) {
  const shown = column.show(row);
  const isBlank = shown === null || shown === undefined || shown === "";
  const kind = `${column.isNumber ? "number" : ""}${isBlank ? " blank" : ""}`;
  return column.isHeader
    ? html`<th scope="row" key=${column.name} data-label=${column.name} class=${kind}>${shown}</th>`
    : html`<td key=${column.name} data-label=${column.name} class=${kind}>${shown}</td>`;
}

/**
 * A list that comes in pages (`usePages`).
 * @param {{pages: ReturnType<import("../core/data.js").usePages>, caption: string, columns: Column[], empty: any, noun: string}} props
 * `noun`: what the rows are, in the plural
 */
export function PagedTable({ pages, caption, columns, empty, noun }) {
  return html`<${Await} of=${pages} empty=${empty} lines=${8}>
    ${(rows) => html`
      <${Table} caption=${caption} columns=${columns} rows=${rows} />
      <div class="list-foot">
        <span role="status">${count(rows.length)} ${noun}${pages.hasMore ? ", and more" : ""}</span>
        ${pages.hasMore
          ? html`<button type="button" class="button small" disabled=${pages.isLoadingMore} onClick=${pages.loadMore}>
              ${pages.isLoadingMore ? "Loading…" : "Load more"}
            </button>`
          : null}
      </div>
    `}
  <//>`;
}
