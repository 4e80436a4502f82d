/** Whether the API answers. When it went away, it is asked again and again until it is back. */
import { makeStore } from "./store.js";

const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 10_000;

const isAway = makeStore(false);
const revision = makeStore(0);
let waitMs = FIRST_WAIT_MS;

async function askAgain() {
  try {
    const response = await fetch(new URL("./healthz", document.baseURI.split("#")[0]), { cache: "no-store" });
    if (response.ok) return connection.answered();
  } catch {
    // Still away.
  }
  waitMs = Math.min(waitMs * 1.5, LONGEST_WAIT_MS);
  setTimeout(askAgain, waitMs);
}

export const connection = {
  /** Whether it is away now. */
  isAway,
  /** Goes up each time it came back: what was read before is to be read again. */
  revision,
  /** A request got no answer. */
  failed() {
    if (isAway.get()) return;
    isAway.set(true);
    waitMs = FIRST_WAIT_MS;
    setTimeout(askAgain, waitMs);
  },
  /** A request got one. */
  answered() {
    if (!isAway.get()) return;
    isAway.set(false);
    revision.set(revision.get() + 1);
  },
};
