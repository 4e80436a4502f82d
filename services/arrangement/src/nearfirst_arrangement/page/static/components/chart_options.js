/** What uPlot is told: axes, lines and what happens under the cursor. */
import { cssColour } from "../core/colours.js";
import { count } from "../core/format.js";

const FONT = "12px system-ui, sans-serif";
const LABEL_FONT = "12px system-ui, sans-serif";
const SYNC_GAP = 6;
const WHOLE_INCREMENTS = Array.from({ length: 10 }, (_, power) => [1, 2, 5].map((digit) => digit * 10 ** power)).flat();
const FLAT = 1e-6; // of their size: float32 similarities that should be equal differ by less

/**
 * uPlot's options but for its width.
 * @param {{series: import("./chart.js").Series[], xLabel: string, yLabel: string, height: number, isLog: boolean,
 *   formatX: (x: number) => string, formatY: (y: number) => string, onCursor: (at: number | null) => void,
 *   onZoom: (isZoomed: boolean) => void}} given
 * @returns {object}
 */
export function drawnOptions({ series, xLabel, yLabel, height, isLog, formatX, formatY, onCursor, onZoom }) {
  const quiet = cssColour("--quiet");
  const grid = { stroke: cssColour("--line"), width: 1 };
  const ticks = { show: false };
  return {
    height,
    padding: [8, 12, 0, 0],
    legend: { show: false },
    scales: { x: { time: false }, y: isLog ? { distr: 3 } : { range: linearRange } },
    cursor: { drag: { x: true, y: false }, points: { size: 7 }, y: false },
    axes: [
      { stroke: quiet, font: FONT, labelFont: LABEL_FONT, label: xLabel, labelSize: 20, size: 30, grid: { show: false }, ticks, ...(formatX === count ? { incrs: WHOLE_INCREMENTS } : {}), values: (_, splits) => splits.map((x) => (x === null ? "" : formatX(x))) },
      { stroke: quiet, font: FONT, labelFont: LABEL_FONT, label: yLabel, labelSize: 20, size: axisWidth, grid, ticks, values: (_, splits) => splits.map((y) => (y === null ? "" : formatY(y))) },
    ],
    series: [{}, ...series.map(line), ...bandsOf(series).flatMap(({ label }) => [edge(label), edge(label)])],
    bands: bandsOf(series).map(({ slot }, place) => band(slot, 1 + series.length + 2 * place)),
    hooks: {
      setCursor: [(plot) => onCursor(plot.cursor.idx ?? null)],
      setScale: [(plot, name) => name === "x" && onZoom(isZoomed(plot))],
    },
  };
}

/** uPlot's own range, but wider for values that differ by rounding alone: between those it finds no ticks. */
function linearRange(_, low, high) {
  const size = Math.max(Math.abs(low), Math.abs(high));
  if (low === null || high - low > FLAT * size) return uPlot.rangeNum(low, high, 0.1, true);
  const room = 0.1 * size || 1;
  return [low - room, high + room];
}

/**
 * The series that have a band. Their edges, high and low, follow the lines in uPlot's data, in this order.
 * @param {import("./chart.js").Series[]} series
 */
export const bandsOf = (series) => series.filter((each) => each.low !== undefined);

function band(slot, high) {
  return { series: [high, high + 1], fill: cssColour(`--series-${slot}`).replace("rgb(", "rgba(").replace(")", ", 0.18)") };
}

function edge(label) {
  return { label, width: 0, stroke: "transparent", spanGaps: true, points: { show: false } };
}

function line({ label, slot, isDashed, isThin, x }) {
  const stroke = cssColour(`--series-${slot}`);
  return {
    label,
    stroke,
    width: isThin ? 1 : 2,
    dash: isDashed ? [6, 4] : undefined,
    spanGaps: true,
    points: { show: x.length <= 24, size: 6, fill: stroke },
  };
}

/** As wide as the widest number. */
function axisWidth(plot, values) {
  if (!values?.length) return 40;
  plot.ctx.save();
  plot.ctx.font = FONT;
  const widest = Math.max(...values.map((text) => plot.ctx.measureText(text).width));
  plot.ctx.restore();
  return Math.ceil(widest) + 2 * SYNC_GAP;
}

function isZoomed(plot) {
  const x = plot.data[0];
  const { min, max } = plot.scales.x;
  return x.length > 1 && (min > x[0] || max < x.at(-1));
}
