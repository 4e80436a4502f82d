/** Numbers, times and sizes as people read them. */

const NOTHING = "–";
const counts = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const dates = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

/** A count with thousands separated. @param {number | null | undefined} value */
export const count = (value) => (isNumber(value) ? counts.format(value) : NOTHING);

/** A large number in short: 12.3K. @param {number | null | undefined} value */
export const short = (value) => (isNumber(value) ? compact.format(value) : NOTHING);

/**
 * A measurement with as many digits as tell something.
 * @param {number | null | undefined} value
 * @param {number} [digits] significant ones
 */
export function number(value, digits = 4) {
  if (!isNumber(value)) return NOTHING;
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-4) return value.toExponential(Math.max(digits - 2, 1)).replace(/\.?0*e\+?/, "e");
  return size >= 10 ** digits ? counts.format(value) : String(Number(value.toPrecision(digits)));
}

/** A share as percent. @param {number | null | undefined} value from 0 to 1 */
export const percent = (value) => (isNumber(value) ? `${number(100 * value, 3)} %` : NOTHING);

/** A time span in its two largest units. @param {number | null | undefined} seconds */
export function duration(seconds) {
  if (!isNumber(seconds)) return NOTHING;
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const units = [["d", 86_400], ["h", 3600], ["min", 60], ["s", 1]];
  let rest = Math.round(seconds);
  const parts = [];
  for (const [unit, size] of units) {
    const whole = Math.floor(rest / size);
    if (whole || parts.length) parts.push([whole, unit]);
    rest -= whole * size;
  }
  const told = parts.slice(0, 2).filter(([whole], at) => at === 0 || whole > 0);
  return told.map(([whole, unit]) => `${whole} ${unit}`).join(" ");
}

/** A size in binary units. @param {number | null | undefined} value */
export function bytes(value) {
  if (!isNumber(value)) return NOTHING;
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  const at = value < 1 ? 0 : Math.min(Math.floor(Math.log2(value) / 10), units.length - 1);
  return `${number(value / 1024 ** at, at === 0 ? 4 : 3)} ${units[at]}`;
}

/** How long ago. @param {string} at ISO 8601 @param {number} [nowMs] */
export function ago(at, nowMs = Date.now()) {
  const seconds = (nowMs - Date.parse(at)) / 1000;
  if (seconds < 5) return "just now";
  const [first] = duration(seconds).match(/^\S+ \S+/);
  return `${first} ago`;
}

/** A moment in the reader's own zone. @param {string} at ISO 8601 */
export const moment = (at) => dates.format(new Date(at));

/** Seconds between two moments; until now without the second. @param {string} from @param {string | null} [to] */
export const secondsBetween = (from, to) => ((to ? Date.parse(to) : Date.now()) - Date.parse(from)) / 1000;

/** A digest or id that is long, its middle left out. @param {string} text @param {number} [length] */
export function shortened(text, length = 20) {
  if (text.length <= length) return text;
  const head = Math.ceil((length - 1) / 2);
  return `${text.slice(0, head)}…${text.slice(head + 1 - length)}`;
}

/** A word of the API in sentences: train_job -> train job. @param {string} name */
export const words = (name) => name.replaceAll("_", " ");

function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}
