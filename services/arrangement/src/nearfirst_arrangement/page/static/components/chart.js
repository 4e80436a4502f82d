/** Line charts: several series over one x, drawn by uPlot. */
import { count, number } from "../core/format.js";
import { useStore } from "../core/store.js";
import { theme } from "../core/theme.js";
import { html, useEffect, useMemo, useRef, useState } from "../core/ui.js";
import { bandsOf, drawnOptions } from "./chart_options.js";

/**
 * @typedef {{key: string, label: string, x: number[], y: number[], slot: number, isDashed?: boolean, isThin?: boolean,
 *   low?: number[], high?: number[]}} Series
 * x ascends; `low`, `high`: the edges of a band around the line; `slot`: its colour, of core/colours.js
 */

const TABLE_ROWS = 200;

/**
 * Series over one x with a legend that turns them on and off, values under the cursor, zoom by dragging, a logarithmic y
 * on request, and the numbers as a table.
 * @param {{label: string, series: Series[], xLabel: string, yLabel: string, height?: number, empty?: string,
 *   canLog?: boolean, formatX?: (x: number) => string, formatY?: (y: number) => string}} props
 * `label`: what the chart shows, for screen readers; `empty`: what to say while no series has a point
 */
export function Chart({ label, series, xLabel, yLabel, height = 300, empty = "No data yet", canLog = true, formatX = count, formatY = number }) {
  const [isLog, setLog] = useState(false);
  const [hidden, setHidden] = useState(new Set());
  const [at, setAt] = useState(null);
  const [isZoomed, setZoomed] = useState(false);
  const host = useRef(null);
  const drawn = useRef(null);
  const zoomed = useRef(false);
  const themeNow = useStore(theme);
  const shown = series.filter((each) => each.x.length > 0);
  const data = useMemo(() => joined(shown, isLog), [series, isLog]);
  const look = JSON.stringify(shown.map(({ key, slot, isDashed, isThin, low }) => [key, slot, isDashed, isThin, low !== undefined]));
  const isEmpty = shown.length === 0;

  useEffect(() => {
    if (isEmpty) return undefined;
    const noteZoom = (is) => {
      zoomed.current = is;
      setZoomed(is);
    };
    const options = drawnOptions({ series: shown, xLabel, yLabel, height, isLog, formatX, formatY, onCursor: setAt, onZoom: noteZoom });
    const plot = new uPlot({ ...options, width: host.current.clientWidth || 600 }, data, host.current);
    drawn.current = plot;
    noteZoom(false);
    hideSome(plot, shown, hidden);
    const observer = new ResizeObserver(([entry]) => plot.setSize({ width: Math.floor(entry.contentRect.width), height }));
    observer.observe(host.current);
    return () => {
      observer.disconnect();
      plot.destroy();
      drawn.current = null;
    };
  }, [look, isLog, themeNow, height, isEmpty, xLabel, yLabel]);

  useEffect(() => {
    const plot = drawn.current;
    if (plot === null || plot.data === data) return;
    plot.setData(data, !zoomed.current);
    if (zoomed.current) plot.redraw();
  }, [data]);

  const toggle = (key) => {
    const next = new Set(hidden);
    if (!next.delete(key)) next.add(key);
    setHidden(next);
    if (drawn.current) hideSome(drawn.current, shown, next);
  };
  const unzoom = () => drawn.current?.setData(drawn.current.data, true);

  if (isEmpty) return html`<div class="chart-empty" role="status">${empty}</div>`;
  return html`<figure class="chart">
    <div class="chart-tools">
      <div class="legend" role="group" aria-label="Series">
        ${shown.map((each, place) => html`<${LegendEntry} key=${each.key} series=${each} isHidden=${hidden.has(each.key)}
          value=${at === null ? null : valueAt(data, place + 1, at)} formatY=${formatY} onToggle=${() => toggle(each.key)} />`)}
      </div>
      <div class="row">
        ${at === null ? null : html`<span class="quiet nowrap">${xLabel} ${formatX(data[0][at])}</span>`}
        ${isZoomed ? html`<button type="button" class="button small" onClick=${unzoom}>Whole range</button>` : null}
        ${canLog
          ? html`<label class="check"><input type="checkbox" checked=${isLog} onChange=${() => setLog(!isLog)} />log y</label>`
          : null}
      </div>
    </div>
    <div class="chart-canvas" ref=${host} role="img" aria-label=${`${label}. ${summary(shown, xLabel, formatX, formatY)}`}></div>
    <${Numbers} label=${label} series=${shown} data=${data} xLabel=${xLabel} formatX=${formatX} formatY=${formatY} />
  </figure>`;
}

function LegendEntry({ series, isHidden, value, formatY, onToggle }) {
  return html`<button type="button" aria-pressed=${String(!isHidden)} onClick=${onToggle} title=${isHidden ? "Show" : "Hide"}>
    <span class=${`swatch s${series.slot}${series.isDashed ? " dashed" : ""}`}></span>${series.label}
    ${value === null ? null : html`<output>${formatY(value)}</output>`}
  </button>`;
}

/** The numbers behind the lines, at most `TABLE_ROWS` of them evenly over x; drawn when opened. */
function Numbers({ label, series, data, xLabel, formatX, formatY }) {
  const [isOpen, setOpen] = useState(false);
  const num = data[0].length;
  const picked = num <= TABLE_ROWS ? [...data[0].keys()] : Array.from({ length: TABLE_ROWS }, (_, k) => Math.round((k * (num - 1)) / (TABLE_ROWS - 1)));
  return html`<details class="chart-note" onToggle=${(event) => setOpen(event.currentTarget.open)}>
    <summary>Numbers</summary>
    ${isOpen
      ? html`<div class="chart-numbers" tabindex="0" role="region" aria-label=${`Numbers of: ${label}`}>
          <table class="table compact">
            <caption class="visually-hidden">${label}</caption>
            <thead><tr><th scope="col" class="number">${xLabel}</th>${series.map((each) => html`<th scope="col" class="number" key=${each.key}>${each.label}</th>`)}</tr></thead>
            <tbody>${picked.map((row) => html`<tr key=${row}><th scope="row" class="number">${formatX(data[0][row])}</th>${series.map((each, place) => html`<td class="number" key=${each.key}>${data[place + 1][row] === null || data[place + 1][row] === undefined ? "" : formatY(data[place + 1][row])}</td>`)}</tr>`)}</tbody>
          </table>
          ${num > TABLE_ROWS ? html`<p>${TABLE_ROWS} of ${count(num)} points, evenly over the range.</p>` : null}
        </div>`
      : null}
  </details>`;
}

function joined(series, isLog) {
  if (series.length === 0) return [[]];
  const drawable = (y) => (isLog ? y.map((value) => (value > 0 ? value : null)) : y);
  const edges = bandsOf(series).flatMap(({ x, low, high }) => [[x, drawable(high)], [x, drawable(low)]]);
  return uPlot.join([...series.map(({ x, y }) => [x, drawable(y)]), ...edges]);
}

function hideSome(plot, series, hidden) {
  const lines = [...series, ...bandsOf(series).flatMap((each) => [each, each])];
  for (const [place, each] of lines.entries()) plot.setSeries(place + 1, { show: !hidden.has(each.key) });
}

/** A series' value at a place of the joined x, or its last before it. */
function valueAt(data, row, at) {
  for (let place = at; place >= 0; place -= 1) {
    const value = data[row][place];
    if (value !== null && value !== undefined) return value;
  }
  return null;
}

function summary(series, xLabel, formatX, formatY) {
  const told = series.slice(0, 8).map(({ label, x, y }) => `${label}: from ${formatY(y[0])} to ${formatY(y.at(-1))} at ${xLabel} ${formatX(x.at(-1))}`);
  return `${told.join("; ")}. The numbers follow as a table.`;
}
