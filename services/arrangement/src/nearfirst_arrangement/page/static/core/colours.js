/** Colours of series: Okabe and Ito's palette, as in the figures; a run keeps its colour in every view. */
import { readStored, writeStored } from "./storage.js";

const SLOTS = 8; // --series-0 to --series-7 in style/base.css
const NAME = "series-slots";
const REMEMBERED = 400;

/** @type {Map<string, number>} */
const slots = new Map(remembered());

function remembered() {
  try {
    return JSON.parse(readStored("session", NAME) ?? "[]");
  } catch {
    return [];
  }
}

/**
 * The colour of something by its id: the first that none of `beside` has, and the same ever after.
 * @param {string} id
 * @param {string[]} [beside] ids that are drawn with it
 * @returns {number} a slot of the palette
 */
export function slotOf(id, beside = []) {
  const taken = new Set(beside.filter((each) => each !== id).map((each) => slots.get(each)));
  const known = slots.get(id);
  if (known !== undefined && !taken.has(known)) return known;
  const free = Array.from({ length: SLOTS }, (_, slot) => slot).find((slot) => !taken.has(slot));
  const slot = free ?? known ?? slots.size % SLOTS;
  slots.set(id, slot);
  writeStored("session", NAME, JSON.stringify([...slots].slice(-REMEMBERED)));
  return slot;
}

/**
 * The colours of several ids that are drawn together: all different while the palette lasts.
 * @param {string[]} ids
 * @returns {Map<string, number>}
 */
export function slotsOf(ids) {
  const found = new Map();
  for (const id of ids) found.set(id, slotOf(id, [...found.keys()]));
  return found;
}

/**
 * A custom property of the style sheet as a colour that a canvas takes.
 * @param {string} property `--accent`
 * @returns {string}
 */
export function cssColour(property) {
  const probe = document.createElement("span");
  probe.style.color = `var(${property})`;
  document.body.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}
