/** The graph of a study: for each arrangement and seed an order, a training on it, and what is measured of it. */
import { Panel } from "../../components/layout.js";
import { Await } from "../../components/states.js";
import { useJson, useLiveReload } from "../../core/data.js";
import { count, duration, words } from "../../core/format.js";
import { runLink } from "../../core/kinds.js";
import { html, useMemo } from "../../core/ui.js";

const KINDS = [["arrangement", "Order"], ["train_job", "Training"], ["evaluation", "Measured"]];
const GLYPHS = { queued: "○", running: "◔", cancelling: "◔", succeeded: "✓", failed: "✕", cancelled: "–" };
const MOST_REASONS = 6;

/** @param {{study: any, nodes: import("../../core/data.js").Loaded<any[]>}} props */
export function GraphPanel({ study, nodes }) {
  return html`<${Panel} title="Runs" hint="Each order is made once, whoever needs it. A line is one seed: order, training, measurements.">
    <${Await} of=${nodes} lines=${6}>
      ${(found) => html`
        <${Activity} nodes=${found} isOver=${study.finished_at !== null} />
        <${Tracks} spec=${study.spec} nodes=${found} />
      `}
    <//>
  <//>`;
}

function Tracks({ spec, nodes }) {
  const byPlace = useMemo(() => new Map(nodes.map((node) => [placeOf(node.arrangement, node.seed, node.kind), node])), [nodes]);
  return html`<div class="tracks">
    ${spec.arrangements.map(({ label }) => html`<section class="track-group" key=${label} aria-label=${label}>
      <h3>${label}${label === spec.baseline ? html` <span class="badge plain">baseline</span>` : null}</h3>
      <ol>
        ${spec.seeds.map((seed) => html`<li class="track" key=${seed}>
          <span class="track-seed">seed ${seed}</span>
          ${KINDS.map(([kind, name]) => html`<${Node} key=${kind} node=${byPlace.get(placeOf(label, seed, kind))} name=${name} />`)}
        </li>`)}
      </ol>
    </section>`)}
  </div>`;
}

const placeOf = (label, seed, kind) => JSON.stringify([label, seed, kind]);

function Node({ node, name }) {
  if (!node) return html`<span class="node queued"><span class="node-name">${name}</span></span>`;
  const share = node.progress?.total ? node.progress.done / node.progress.total : 0;
  const isUnder = node.state === "running" || node.state === "cancelling";
  const state = node.is_held ? "held" : words(node.state);
  const told = isUnder && node.progress?.total ? `${Math.floor(100 * share)} %` : "";
  const title = node.error?.detail ?? `${name}: ${state}${told ? `, ${told}` : ""}`;
  return html`<a class=${`node ${node.is_held ? "held" : node.state}`} href=${runLink(node.kind, node.run)} title=${title}
      aria-label=${`${name} of ${node.arrangement}, seed ${node.seed}: ${state}${told ? `, ${told}` : ""}`}>
    ${isUnder ? html`<span class="node-done" style=${{ width: `${100 * share}%` }}></span>` : null}
    <span class="node-glyph" aria-hidden="true">${node.is_held ? "‖" : GLYPHS[node.state]}</span>
    <span class="node-name">${name}</span>
    ${told ? html`<span class="node-told">${told}</span>` : null}
  </a>`;
}

/** What runs now, and why what could start doesn't. */
function Activity({ nodes, isOver }) {
  const unique = [...new Map(nodes.map((node) => [node.run, node])).values()];
  const failed = isOver ? [] : unique.filter((node) => node.state === "failed" && node.error && node.kind !== "evaluation");
  const running = unique.filter((node) => node.state === "running" && node.kind !== "evaluation");
  return html`<div class="activity">
    ${failed.map((node) => html`<div class="notice bad" key=${node.run}>
      <strong>${titleOf(node)} failed</strong><span>${node.error.detail}</span><a href=${runLink(node.kind, node.run)}>Look at it</a></div>`)}
    ${running.map((node) => html`<${Running} key=${node.run} node=${node} />`)}
    ${isOver ? null : html`<${Waiting} nodes=${unique} />`}
  </div>`;
}

const titleOf = (node) => `${KINDS.find(([kind]) => kind === node.kind)[1]} of ${node.arrangement}, seed ${node.seed}`;

function Running({ node }) {
  const { progress } = node;
  const told = progress?.total ? `${count(progress.done)} of ${count(progress.total)} ${progress.unit}` : "has begun";
  return html`<p class="activity-line">
    <span class="badge running">running</span>
    <a href=${runLink(node.kind, node.run)}>${titleOf(node)}</a>
    <span class="quiet">${told}${progress?.eta_s ? `, ${duration(progress.eta_s)} left` : ""}</span>
  </p>`;
}

/** Reasons of queued runs, each once; from the queue, which knows them all in one request. */
function Waiting({ nodes }) {
  const queued = nodes.filter((node) => node.state === "queued" && !node.is_held && node.kind !== "evaluation");
  const queue = useJson(queued.length ? "/queue" : null, { limit: 1000 });
  useLiveReload(queue.reload, () => queued.length > 0, 4000);
  const reasons = useMemo(() => reasonsOf(queued, queue.data), [nodes, queue.data]);
  return reasons.slice(0, MOST_REASONS).map(([reason, waiting]) => html`<p class="activity-line" key=${reason}>
    <span class="badge queued">waiting</span>
    <span>${waiting.length === 1 ? titleOf(waiting[0]) : `${waiting.length} runs`}</span>
    <span class="quiet">${reason}</span>
  </p>`);
}

function reasonsOf(queued, queue) {
  const why = new Map((queue?.kinds ?? []).flatMap((kind) => kind.waiting).map((run) => [run.id, run.waits_because]));
  const grouped = new Map();
  for (const node of queued) {
    const told = why.get(node.run);
    if (told === undefined || told === null) continue;
    const reason = told.startsWith("waits for") ? `${node.kind === "train_job" ? "wait for their order" : "wait for embeddings"}` : told;
    grouped.set(reason, [...(grouped.get(reason) ?? []), node]);
  }
  return [...grouped];
}
