/** The API key: asked for when the API wants one, sent as a header only, never part of an address. */
import { makeStore } from "./store.js";
import { readStored, writeStored } from "./storage.js";

const NAME = "key";

/** The key that requests are sent with; null: none. */
export const key = makeStore(readStored("session", NAME) ?? readStored("local", NAME));

/** Why a key is asked for just now, in the API's words; null: none is. */
export const keyWanted = makeStore(null);

/**
 * Use this key from now on.
 * @param {string} value
 * @param {boolean} isRemembered also after the browser was closed
 */
export function enterKey(value, isRemembered) {
  writeStored("session", NAME, value);
  writeStored("local", NAME, isRemembered ? value : null);
  keyWanted.set(null);
  key.set(value);
}

/** Forget the key, here and in storage. */
export function forgetKey() {
  writeStored("session", NAME, null);
  writeStored("local", NAME, null);
  key.set(null);
}
