/** Kinds of runs: what they are called, and where the page shows them. */
import { words } from "./format.js";
import { link } from "./router.js";

const AREAS = { arrangement: "/arrangements", train_job: "/runs", evaluation: "/evaluations", study: "/studies" };
const NAMES = { train_job: "training", text_metrics: "text metrics", embedding_shard: "embedding, a part" };

const PREFIXES = { arr: "arrangement", job: "train_job", evl: "evaluation", std: "study" };

/** The kind of a run by its id; null: one that the page has no view for. @param {string} id */
export const kindOf = (id) => PREFIXES[id.split("_")[0]] ?? null;

/** What a kind of run is called. @param {string} kind */
export const kindName = (kind) => NAMES[kind] ?? words(kind);

/** The address of a run's view; null: the page has none for its kind. @param {string} kind @param {string} id */
export const runLink = (kind, id) => (AREAS[kind] ? link(`${AREAS[kind]}/${id}`) : null);
