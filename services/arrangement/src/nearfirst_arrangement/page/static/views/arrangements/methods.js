/** What methods and orders are called, and which settings fit which. */

/** @typedef {{id: string, name: string, means: string, isRanked?: boolean}} Method */

/** @type {Method[]} */
export const METHODS = [
  { id: "tma", name: "TMA", means: "Test rows take turns; each chooses the train row that is nearest to it.", isRanked: true },
  { id: "wsd", name: "WSD", means: "By a weighted sum of the distance to the nearest test row and the mean distance to all.", isRanked: true },
  { id: "ot", name: "Optimal transport", means: "By each row's share of the cost of moving the train rows onto the test rows.", isRanked: true },
  { id: "round_robin", name: "Round robin", means: "One row of each task in turn." },
  { id: "cluster", name: "Clustered", means: "All rows of a task together." },
  { id: "random", name: "Random", means: "A shuffle from the seed." },
  { id: "as_is", name: "As it is", means: "The dataset's own order." },
];

const ORDERS = {
  nft: ["nearest first", "What is most like the test set is trained on first."],
  fft: ["farthest first", "What is least like the test set is trained on first."],
  rt: ["in random order", "The same rows, shuffled: what an order is compared with."],
  max: ["the farthest rows", "Keeps the farthest-chosen rows; wants a limit."],
  min: ["the nearest rows", "Keeps the nearest-chosen rows; wants a limit."],
};

/** The method with this id. @param {string} id @returns {Method} */
export const methodOf = (id) => METHODS.find((each) => each.id === id) ?? { id, name: id, means: "" };

/** Value and words of the orders that a method takes; none: it takes no order. @param {string} method @returns {[string, string][]} */
export function ordersOf(method) {
  if (!methodOf(method).isRanked) return [];
  const ids = method === "tma" ? ["nft", "fft", "rt", "max", "min"] : ["nft", "fft", "rt"];
  return ids.map((id) => [id, ORDERS[id][0][0].toUpperCase() + ORDERS[id][0].slice(1)]);
}

/** What an order does. @param {string} order */
export const orderMeans = (order) => ORDERS[order]?.[1] ?? "";

/** An arrangement in a few words. @param {any} spec */
export function title(spec) {
  const order = ORDERS[spec.order]?.[0];
  const parts = [methodOf(spec.method).name, order].filter(Boolean).join(", ");
  const limit = spec.limit ? `, ${spec.limit.toLocaleString("en")} rows` : "";
  const coarse = spec.granularity === "coarse" ? ", by task" : "";
  return `${parts}${coarse}${limit}`;
}

/** Whether an order depends on the seed. @param {{method: string, order: string | null, select?: {how: string} | null}} spec */
export const isSeeded = (spec) => spec.order === "rt" || spec.method === "random" || spec.select?.how === "random";

/** Whether an order depends on similarities. @param {{method: string, select?: {how: string} | null}} spec */
export const needsEmbeddings = (spec) => Boolean(methodOf(spec.method).isRanked) || ["polar", "uniform"].includes(spec.select?.how);
