/** Short messages: shown for a moment, and read out by screen readers. */
import { makeStore } from "./store.js";

const SHOWN_MS = 5000;
let number = 0;

/** @type {import("./store.js").Store<{number: number, text: string}[]>} */
export const messages = makeStore([]);

/**
 * Tell the person what has happened.
 * @param {string} text
 */
export function announce(text) {
  const message = { number: (number += 1), text };
  messages.set([...messages.get().slice(-2), message]);
  setTimeout(() => messages.set(messages.get().filter((each) => each !== message)), SHOWN_MS);
}
