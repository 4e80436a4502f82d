/** Browser storage that may be forbidden, or full: then nothing is kept, and nothing breaks. */

/**
 * @param {"local" | "session"} kind
 * @param {string} name
 * @returns {string | null}
 */
export function readStored(kind, name) {
  try {
    return storageOf(kind).getItem(`nearfirst.${name}`);
  } catch {
    return null;
  }
}

/**
 * @param {"local" | "session"} kind
 * @param {string} name
 * @param {string | null} value null: forget it
 */
export function writeStored(kind, name, value) {
  try {
    if (value === null) storageOf(kind).removeItem(`nearfirst.${name}`);
    else storageOf(kind).setItem(`nearfirst.${name}`, value);
  } catch {
    // The page goes on without it.
  }
}

function storageOf(kind) {
  return kind === "local" ? localStorage : sessionStorage;
}
