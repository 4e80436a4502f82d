/** Measurements of trainings as series of charts. */
import { getJson } from "../../core/api.js";
import { number, percent, duration, short } from "../../core/format.js";

const POINTS = 1200; // about one for each pixel: more can't be seen

/**
 * What can be drawn of a training.
 * @typedef {{id: string, words: string, names: (all: string[]) => string[], yLabel: string, format: (y: number) => string, canLog: boolean}} Measure
 * `names`: which measurements it shows, of those that there are
 */

const only = (...wanted) => (all) => wanted.filter((name) => all.includes(name));

/** @type {Measure[]} */
export const MEASURES = [
  { id: "loss", words: "Loss", names: only("train_loss", "test_loss"), yLabel: "loss", format: number, canLog: true },
  { id: "tasks", words: "Test loss by task", names: (all) => all.filter((name) => name.startsWith("test_loss/")), yLabel: "test loss", format: number, canLog: true },
  { id: "tokens", words: "Tokens/s", names: only("tokens_per_s"), yLabel: "tokens per second", format: short, canLog: false },
  { id: "lr", words: "Learning rate", names: only("lr"), yLabel: "learning rate", format: number, canLog: true },
  { id: "grad", words: "Gradient norm", names: only("grad_norm"), yLabel: "gradient norm", format: number, canLog: true },
  { id: "time", words: "Step time", names: only("step_s"), yLabel: "time of a step", format: duration, canLog: true },
  { id: "memory", words: "Memory", names: only("memory_gib"), yLabel: "GiB", format: number, canLog: false },
  { id: "mfu", words: "Utilisation", names: only("mfu"), yLabel: "of the peak", format: percent, canLog: false },
];

/** The measure of a query parameter; the loss when it names none. @param {string | undefined} id @returns {Measure} */
export const measureOf = (id) => MEASURES.find((measure) => measure.id === id) ?? MEASURES[0];

/** What a measurement is called beside its line. @param {string} name */
export function metricName(name) {
  if (name.startsWith("test_loss/")) return name.slice("test_loss/".length) || "no task";
  return { train_loss: "training loss", test_loss: "test loss", tokens_per_s: "tokens/s", lr: "learning rate" }[name] ?? name;
}

/**
 * The names of all measurements of a job; none before it has done a step. The first steps have every kind: the test loss
 * is measured before them, too.
 * @param {string} jobId
 * @param {AbortSignal} signal
 * @returns {Promise<string[]>}
 */
export async function metricNames(jobId, signal) {
  const page = await getJson(metricsPath(jobId), { limit: 1000 }, signal);
  const hasSteps = page.items.some((row) => row.name === "train_loss");
  return hasSteps ? [...new Set(page.items.map((row) => row.name))] : [];
}

/**
 * Curves of a job by name: at most `POINTS` points of each, with every peak and dip.
 * @param {string} jobId
 * @param {string[]} names at most 100
 * @param {AbortSignal} signal
 * @returns {Promise<Map<string, {x: number[], y: number[]}>>}
 */
export async function loadCurves(jobId, names, signal) {
  const curves = new Map(names.map((name) => [name, { x: [], y: [] }]));
  if (names.length === 0) return curves;
  const page = await getJson(metricsPath(jobId), { name: names, points: POINTS }, signal);
  for (const { step, name, value } of page.items) {
    const curve = curves.get(name);
    curve.x.push(step);
    curve.y.push(value);
  }
  return curves;
}

function metricsPath(jobId) {
  return `/train-jobs/${encodeURIComponent(jobId)}/metrics`;
}
