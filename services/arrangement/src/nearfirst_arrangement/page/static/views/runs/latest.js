/** The numbers of a training that are looked at first. */
import { Stats } from "../../components/basics.js";
import { useLiveReload, useLoaded } from "../../core/data.js";
import { count, duration, number, secondsBetween, short } from "../../core/format.js";
import { html } from "../../core/ui.js";
import { loadCurves } from "./metrics.js";

const NAMES = ["train_loss", "test_loss", "tokens_per_s"];
const RATED_POINTS = 20;

/** @param {{job: any}} props */
export function LatestNumbers({ job }) {
  const loaded = useLoaded((signal) => loadCurves(job.id, NAMES, signal), [job.id]);
  useLiveReload(loaded.reload, (event) => event.run_id === job.id, 3000);
  const curve = (name) => loaded.data?.get(name) ?? { x: [], y: [] };
  const loss = curve("train_loss");
  const test = curve("test_loss");
  const lowest = Math.min(...test.y);
  const rate = median(curve("tokens_per_s").y.slice(-RATED_POINTS));
  const isActive = job.state === "running" || job.state === "cancelling";
  const seconds = job.started_at ? secondsBetween(job.started_at, isActive ? null : job.finished_at) : null;
  return html`<${Stats} items=${[
    ["Step", job.progress ? count(job.progress.done) : "–", job.progress?.total ? `of ${count(job.progress.total)}` : ""],
    ["Training loss", number(loss.y.at(-1))],
    ["Test loss", number(test.y.at(-1)), lowest < test.y.at(-1) ? `lowest ${number(lowest)}` : ""],
    ["Tokens/s", rate === null ? "–" : short(rate)],
    isActive ? ["Time left", duration(job.progress?.eta_s)] : ["Took", job.finished_at ? duration(seconds) : "–"],
  ]} />`;
}

function median(values) {
  if (values.length === 0) return null;
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
}
