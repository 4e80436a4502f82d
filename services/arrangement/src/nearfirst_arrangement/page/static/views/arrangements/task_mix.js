/** Which tasks are trained on when: a stacked bar for each tenth of the order. */
import { Panel } from "../../components/layout.js";
import { count, percent } from "../../core/format.js";
import { html, useMemo } from "../../core/ui.js";

const OTHERS = "rest";
const SLOTS = [0, 1, 2, 4, 5, 6, 7]; // of the palette, without its grey
const COLOURS = [...SLOTS.map((slot) => `f${slot}`), ...SLOTS.map((slot) => `p${slot}`)]; // full, then pale

/**
 * The tasks that say most of several orders, with a colour each: the largest of each tenth, then the second of each, …
 * @param {any[]} mixes
 * @returns {Map<string, string>} task -> class of its colour
 */
export function taskColours(mixes) {
  const ranked = mixes.flatMap((mix) => mix.counts.map((tenth) => mix.tasks.map((task, at) => [task, tenth[at]]).filter(([, rows]) => rows > 0).sort((a, b) => b[1] - a[1])));
  const found = new Set();
  for (let rank = 0; ranked.some((tasks) => rank < tasks.length); rank += 1) {
    for (const tasks of ranked) if (rank < tasks.length) found.add(tasks[rank][0]);
  }
  return new Map([...found].slice(0, COLOURS.length).map((task, at) => [task, COLOURS[at]]));
}

/** @param {{mix: any}} props */
export function TaskMixPanel({ mix }) {
  const colours = useMemo(() => taskColours([mix]), [mix]);
  return html`<${Panel} title="Tasks along the order" hint=${`${count(mix.num_tasks_total)} tasks in all. Each bar is a tenth of the order, the left one is trained on first.`}>
    <${MixLegend} colours=${colours} mixes=${[mix]} />
    <${MixBars} mix=${mix} colours=${colours} label="Tasks in each tenth of the order" />
  <//>`;
}

/** What the colours mean. @param {{colours: Map<string, string>, mixes: any[]}} props */
export function MixLegend({ colours, mixes }) {
  const hasOthers = mixes.some((mix) => mix.counts.some((_, tenth) => sharesOf(mix, colours, tenth).at(-1).colour === OTHERS));
  return html`<ul class="mix-legend">
    ${[...colours].map(([task, colour]) => html`<li key=${task}><span class=${`mix-key ${colour}`}></span>${task || "no task named"}</li>`)}
    ${hasOthers ? html`<li><span class=${`mix-key ${OTHERS}`}></span>all others</li>` : null}
  </ul>`;
}

/** The bars, and their numbers as a table. @param {{mix: any, colours: Map<string, string>, label: string}} props */
export function MixBars({ mix, colours, label }) {
  const tenths = useMemo(() => mix.counts.map((_, at) => sharesOf(mix, colours, at)), [mix, colours]);
  return html`<figure class="mix">
    <div class="mix-bars" role="img" aria-label=${`${label}. ${spoken(mix)}`}>
      ${tenths.map((parts, at) => html`<div class="mix-bar" key=${at}>
        <div class="mix-stack">
          ${parts.map((part) => html`<span key=${part.name} class=${part.colour} style=${{ flexGrow: part.rows }} title=${`${part.name}: ${count(part.rows)} rows, ${percent(part.share)}`}></span>`)}
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
  const known = [...colours].map(([task, colour]) => ({ name: task || "no task named", colour, rows: counts[mix.tasks.indexOf(task)] ?? 0 }));
  const rest = total - known.reduce((sum, part) => sum + part.rows, 0);
  return [...known, { name: "all others", colour: OTHERS, rows: rest }]
    .filter((part) => part.rows > 0)
    .map((part) => ({ ...part, share: part.rows / total }));
}

function spoken(mix) {
  const told = mix.largest.map((task, at) => `tenth ${at + 1}: mostly ${task || "rows without a task"}`);
  return `${told.join("; ")}. The numbers follow as a table.`;
}
