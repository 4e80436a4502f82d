/** Two arrangements beside each other. */
import { Chart } from "../../components/chart.js";
import { Stats } from "../../components/basics.js";
import { Panel } from "../../components/layout.js";
import { Await, Empty } from "../../components/states.js";
import { getJson } from "../../core/api.js";
import { slotsOf } from "../../core/colours.js";
import { useJson, useLoaded } from "../../core/data.js";
import { count, number, percent } from "../../core/format.js";
import { link } from "../../core/router.js";
import { html, useMemo } from "../../core/ui.js";
import { distanceName, middles } from "./distance.js";
import { isSeeded, title } from "./methods.js";
import { MixBars, MixLegend, taskColours } from "./task_mix.js";

/** @param {{ids: string[], onRemove: (id: string) => void, onDone: () => void}} props */
export function Compare({ ids, onRemove, onDone }) {
  const load = (signal) => Promise.all(ids.map((id) => getJson(`/arrangements/${encodeURIComponent(id)}`, {}, signal)));
  const loaded = useLoaded(load, [ids]);
  return html`
    <${Panel} title="Compared" actions=${html`<button type="button" class="button small" onClick=${onDone}>Done</button>`}>
      <${Await} of=${loaded} lines=${2}>
        ${(both) => html`
          <ul class="chips">${both.map((each) => html`<${Chosen} key=${each.id} arrangement=${each} onRemove=${onRemove} />`)}</ul>
          ${both.length < 2 ? html`<p class="quiet">Choose another one in the list below.</p>` : html`<${Overlap} both=${both} />`}
        `}
      <//>
    <//>
    ${loaded.data?.length === 2 ? html`<${Distances} both=${loaded.data} /><${Mixes} both=${loaded.data} />` : null}
  `;
}

function nameOf(arrangement) {
  return isSeeded(arrangement.spec) ? `${title(arrangement.spec)}, seed ${arrangement.spec.seed}` : title(arrangement.spec);
}

/** Names that differ even where the settings that are shown don't. */
function namesOf(both) {
  const names = both.map(nameOf);
  return names[0] === names[1] ? both.map((each, at) => `${names[at]} (${each.id})`) : names;
}

function Chosen({ arrangement, onRemove }) {
  const slot = slotsOf([arrangement.id]).get(arrangement.id);
  return html`<li><span class=${`mix-key f${slot}`}></span> <a href=${link(`/arrangements/${arrangement.id}`)}>${nameOf(arrangement)}</a>
    <button type="button" class="button plain small" aria-label=${`Don't compare ${arrangement.id}`} onClick=${() => onRemove(arrangement.id)}>✕</button></li>`;
}

function Overlap({ both }) {
  const [one, other] = both;
  const isReady = both.every((each) => each.state === "succeeded");
  const loaded = useJson(isReady ? `/arrangements/${encodeURIComponent(one.id)}/overlap/${encodeURIComponent(other.id)}` : null);
  if (!isReady) return html`<${Empty} title="Not yet">Both must have succeeded before their orders can be compared.<//>`;
  return html`<${Await} of=${loaded} isBlock>${(overlap) => html`<${Overlapping} overlap=${overlap} />`}<//>`;
}

function Overlapping({ overlap }) {
  const series = useMemo(() => overlapLines(overlap), [overlap]);
  return html`<div class="stack overlap">
    <${Stats} items=${[
      ["Rows in both", count(overlap.num_shared), `of ${count(overlap.num_rows)} and ${count(overlap.num_rows_other)}`],
      ["Rank correlation", overlap.rank_correlation === null ? "–" : number(overlap.rank_correlation, 3), wordsOf(overlap.rank_correlation)],
      ["The same from the start", `${count(overlap.num_same_start)} rows`],
      ["In common after a tenth", percent(overlap.shared[Math.floor(overlap.shared.length / 10)])],
    ]} />
    <${Chart} label="Share of the first rows that both orders have" series=${series} xLabel="first rows of each order" yLabel="share in both" height=${260} canLog=${false}
      formatY=${(y) => percent(y)} />
  </div>`;
}

function wordsOf(correlation) {
  if (correlation === null) return "";
  if (correlation === 1) return "the same order";
  if (correlation > 0.7) return "much the same order";
  if (correlation > 0.3) return "somewhat alike";
  if (correlation > -0.3) return "unrelated orders";
  return correlation > -0.7 ? "somewhat reversed" : "about reversed";
}

function overlapLines(overlap) {
  const lines = [{ key: "shared", label: "in both", x: overlap.rows, y: overlap.shared, slot: 0 }];
  if (overlap.num_shared === overlap.num_rows && overlap.num_rows === overlap.num_rows_other) {
    lines.push({ key: "chance", label: "by chance", x: overlap.rows, y: overlap.rows.map((rows) => rows / overlap.num_rows), slot: 3, isDashed: true, isThin: true });
  }
  return lines;
}

function Distances({ both }) {
  const known = both.filter((each) => each.report?.distance);
  const series = useMemo(() => distanceLines(both), [both]);
  const units = new Set(known.map((each) => each.report.distance.similarity));
  if (units.size > 1) return html`<div class="notice"><strong>Their distances can't be laid over each other</strong><span>One is by cosine, the other euclidean.</span></div>`;
  return html`<${Panel} title="Distance to the test set, along the orders" hint="Mean of each part to its nearest test rows. Lower is nearer; the left is trained on first.">
    <${Chart} label="Mean distance to the nearest test row, of both orders" series=${series} xLabel="position in the order" yLabel=${distanceName([...units][0])}
      canLog=${false} formatY=${(y) => number(y, 3)} empty="Neither order says anything of similarities." />
  <//>`;
}

function distanceLines(both) {
  const slots = slotsOf(both.map((each) => each.id));
  const names = namesOf(both);
  return both.flatMap((each, at) => {
    const distance = each.report?.distance;
    return distance ? [{ key: each.id, label: names[at], x: middles(distance.bounds), y: distance.mean, slot: slots.get(each.id) }] : [];
  });
}

function Mixes({ both }) {
  const mixes = both.map((each) => each.report?.task_mix ?? null);
  const colours = useMemo(() => taskColours(mixes.filter(Boolean)), [both]);
  if (mixes.every((mix) => mix === null)) return null;
  const names = namesOf(both);
  return html`<${Panel} title="Tasks along the orders" hint="Each bar is a tenth of the order, the left one is trained on first.">
    <${MixLegend} colours=${colours} mixes=${mixes.filter(Boolean)} />
    <div class="columns">${both.map((each, at) => html`<div key=${each.id}>
      <h3 class="mix-heading">${names[at]}</h3>
      ${mixes[at] ? html`<${MixBars} mix=${mixes[at]} colours=${colours} label=${`Tasks in each tenth of ${names[at]}`} />` : html`<p class="quiet">Its rows name no tasks.</p>`}
    </div>`)}</div>
  <//>`;
}
