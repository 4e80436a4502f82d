/** Metrics of a report: names, units, and how they are written. */
import { number } from "../../core/format.js";

const NAMES = { loss: "Loss", rouge1: "ROUGE-1", rougeL: "ROUGE-L", exact_match: "Exact match", reward: "Reward" };
const UNITS = { loss: "nats per token", rouge1: "percent", rougeL: "percent", exact_match: "percent", reward: "reward" };
const DECIMALS = { loss: 3, reward: 3 };

/** What a metric is called. @param {string} metric */
export const metricName = (metric) => NAMES[metric] ?? metric;

/** The same within a sentence: ROUGE keeps its letters. @param {string} metric */
export const metricInSentence = (metric) => (metric.startsWith("rouge") ? metricName(metric) : metricName(metric).toLowerCase());

/** Its unit. @param {string} metric */
export const unitOf = (metric) => UNITS[metric] ?? "";

/** A value, with a metric's decimals. @param {number | null} value @param {string} metric */
export function valueOf(value, metric) {
  return value === null || value === undefined ? "–" : value.toFixed(DECIMALS[metric] ?? 1);
}

/** A difference with its sign. @param {number | null} value @param {string} metric */
export function signedOf(value, metric) {
  if (value === null || value === undefined) return "–";
  const text = valueOf(Math.abs(value), metric);
  return `${value < 0 ? "−" : "+"}${text}`;
}

/** An interval in words. @param {number | null} low @param {number | null} high @param {string} metric */
export function intervalOf(low, high, metric) {
  return low === null || high === null ? "–" : `${signedOf(low, metric)} to ${signedOf(high, metric)}`;
}

/** Steps, or that a level was never reached. @param {number | null} steps */
export const stepsWords = (steps) => (steps === null ? "never" : number(Math.round(steps), 6));
