/** Which tasks are trained on when: a stacked bar for each tenth of the order. */
import { Panel } from "../../components/layout.js";
import { count, percent } from "../../core/format.js";
import { html, useMemo } from "../../core/ui.js";

const OTHERS = 3; // the palette's grey
const SLOTS = [0, 1, 2, 4, 5, 6, 7];

/**
 * The tasks that are most of several orders, with a colour each.
 * @param {any[]} mixes
 * @returns {Map<string, number>} task -> slot of the palette
 */
export function taskColours(mixes) {
  const rows = new Map();
  for (const mix of mixes) {
    for (const [at, task] of mix.tasks.entries()) {
      rows.set(task, (rows.get(task) ?? 0) + mix.counts.reduce((sum, tenth) => sum + tenth[at], 0));
    }
  }
  const largest = [...rows].sort((a, b) => b[1] - a[1]).slice(0, SLOTS.length);
  return new Map(largest.map(([task], at) => [task, SLOTS[at]]));
}

/** @param {{mix: any}} props */
export function TaskMixPanel({ mix }) {
  const colours = useMemo(() => taskColours([mix]), [mix]);
  return html`<${Panel} title="Tasks along the order" hint=${`${count(mix.num_tasks_total)} tasks in all. Each bar is a tenth of the order, the left one is trained on first.`}>
    <${MixLegend} colours=${colours} />
    <${MixBars} mix=${mix} colours=${colours} label="Tasks in each tenth of the order" />
  <//>`;
}

/** What the colours mean. @param {{colours: Map<string, number>}} props */
export function MixLegend({ colours }) {
  return html`<ul class="mix-legend">
    ${[...colours].map(([task, slot]) => html`<li key=${task}><span class=${`mix-key f${slot}`}></span>${task || "no task named"}</li>`)}
    <li><span class=${`mix-key f${OTHERS}`}></span>all others</li>
  </ul>`;
}

/** The bars, and their numbers as a table. @param {{mix: any, colours: Map<string, number>, label: string}} props */
export function MixBars({ mix, colours, label }) {
  const tenths = useMemo(() => mix.counts.map((_, at) => sharesOf(mix, colours, at)), [mix, colours]);
  return html`<figure class="mix">
    <div class="mix-bars" role="img" aria-label=${`${label}. ${spoken(mix)}`}>
      ${tenths.map((parts, at) => html`<div class="mix-bar" key=${at}>
        <div class="mix-stack">
          ${parts.map((part) => html`<span key=${part.name} class=${`f${part.slot}`} style=${{ flexGrow: part.rows }} title=${`${part.name}: ${count(part.rows)} rows, ${percent(part.share)}`}></span>`)}
        </div>
        <span class="mix-label">${at + 1}</span>
      </div>`)}
    </div>
    <details class="chart-note"><summary>Numbers</summary>
      <div class="chart-numbers" tabindex="0" role="region" aria-label=${`Numbers of: ${label}`}>
        <table class="table compact">
          <caption class="visually-hidden">${label}</caption>
          <thead><tr><th scope="col">Tenth</th><th scope="col">Positions</th><th scope="col">Largest task</th><th scope="col" class="number">Its rows</th><th scope="col" class="number">Tasks</th></tr></thead>
          <tbody>${tenths.map((_, at) => html`<tr key=${at}><th scope="row">${at + 1}</th><td>${count(mix.bounds[at])} to ${count(mix.bounds[at + 1] - 1)}</td>
            <td>${mix.largest[at]}</td><td class="number">${count(mix.largest_counts[at])}</td><td class="number">${count(mix.num_tasks[at])}</td></tr>`)}</tbody>
        </table>
      </div>
    </details>
  </figure>`;
}

function sharesOf(mix, colours, tenth) {
  const counts = mix.counts[tenth];
  const total = counts.reduce((sum, rows) => sum + rows, 0);
  const known = [...colours].map(([task, slot]) => ({ name: task || "no task named", slot, rows: counts[mix.tasks.indexOf(task)] ?? 0 }));
  const rest = total - known.reduce((sum, part) => sum + part.rows, 0);
  return [...known, { name: "all others", slot: OTHERS, rows: rest }]
    .filter((part) => part.rows > 0)
    .map((part) => ({ ...part, share: part.rows / total }));
}

function spoken(mix) {
  const told = mix.largest.map((task, at) => `tenth ${at + 1}: mostly ${task || "rows without a task"}`);
  return `${told.join("; ")}. The numbers follow as a table.`;
}
