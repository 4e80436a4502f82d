/** How far the rows are from the test set, along the order. */
import { Chart } from "../../components/chart.js";
import { Panel } from "../../components/layout.js";
import { slotsOf } from "../../core/colours.js";
import { number } from "../../core/format.js";
import { html, useMemo } from "../../core/ui.js";

/** The middles of parts, as positions. @param {number[]} bounds @returns {number[]} */
export const middles = (bounds) => bounds.slice(0, -1).map((low, at) => (low + bounds[at + 1] - 1) / 2);

/** What a distance is measured in. @param {string} similarity */
export const distanceName = (similarity) => (similarity === "euclidean" ? "euclidean distance" : "distance (−cosine)");

/** @param {{distance: any, id: string}} props */
export function DistancePanel({ distance, id }) {
  const series = useMemo(() => linesOf(distance, slotsOf([id]).get(id)), [distance, id]);
  return html`<${Panel} title="Distance to the test set, along the order" hint="Of each part of the order: how far its rows are from their nearest test rows. Lower is nearer; the left is trained on first.">
    <${Chart} label="Distance of train rows to their nearest test row against position" series=${series} xLabel="position in the order"
      yLabel=${distanceName(distance.similarity)} canLog=${false} formatY=${(value) => number(value, 3)} />
  <//>`;
}

function linesOf(distance, slot) {
  const x = middles(distance.bounds);
  const line = (key, label, more) => ({ key, label, x, y: distance[key], slot, ...more });
  return [
    line("mean", "mean"),
    line("lower_quartile", "lower quartile", { isThin: true, isDashed: true }),
    line("upper_quartile", "upper quartile", { isThin: true, isDashed: true }),
    line("min", "nearest", { isThin: true, slot: 3 }),
    line("max", "farthest", { isThin: true, slot: 3 }),
  ];
}
