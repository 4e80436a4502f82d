/** Run changes as they happen: one stream of GET /events for the whole page, read with fetch so that it has the key. */
import { request } from "./api.js";
import { connection } from "./connection.js";
import { key } from "./key.js";
import { makeStore } from "./store.js";

/** @typedef {{seq: number, run_id: string, kind: string, type: string, data: object, created_at: string}} RunEvent */

const KEPT = 100;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;
const SILENCE_MS = 45_000; // the API sends a comment every 15 s
const POLL_MS = 5_000;

/** "connecting", "live", or "polling": no stream can be had, so views read again every few seconds. */
export const liveState = makeStore("connecting");

/** The newest events, newest first: what came before the page was opened, too. @type {import("./store.js").Store<RunEvent[]>} */
export const recentEvents = makeStore([]);

const listeners = new Set();
const tickListeners = new Set();
let lastSeq = null;
let current = null;

/**
 * Be told of every event from now on. Answers with what ends it.
 * @param {(event: RunEvent) => void} listener
 * @returns {() => void}
 */
export function onEvent(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/**
 * Be told to read again while there is no stream. Answers with what ends it.
 * @param {() => void} listener
 * @returns {() => void}
 */
export function onPoll(listener) {
  tickListeners.add(listener);
  return () => tickListeners.delete(listener);
}

/** Open the stream, and keep it open: anew with another key, and not while nobody looks. */
export function startLive() {
  const restart = () => {
    current?.abort();
    current = null;
    if (document.hidden) return;
    current = new AbortController();
    keepOpen(current.signal);
  };
  key.subscribe(restart);
  document.addEventListener("visibilitychange", restart); // six tabs would take all of a browser's connections
  connection.revision.subscribe(restart);
  setInterval(() => {
    if (liveState.get() !== "live" && !document.hidden) for (const listener of [...tickListeners]) listener();
  }, POLL_MS);
  restart();
}

async function keepOpen(signal) {
  let waitMs = FIRST_WAIT_MS;
  while (!signal.aborted) {
    const startedMs = performance.now();
    try {
      await readOnce(signal);
    } catch (problem) {
      if (signal.aborted) return;
      liveState.set("polling");
      if (problem.status === 401 || problem.status === 403) return; // another key starts it anew
    }
    if (signal.aborted) return;
    if (performance.now() - startedMs > LONGEST_WAIT_MS) waitMs = FIRST_WAIT_MS;
    await new Promise((wake) => setTimeout(wake, waitMs));
    waitMs = Math.min(waitMs * 2, LONGEST_WAIT_MS);
  }
}

async function readOnce(signal) {
  const inner = new AbortController();
  const stop = () => inner.abort();
  signal.addEventListener("abort", stop);
  let watchdog;
  const heard = () => {
    clearTimeout(watchdog);
    watchdog = setTimeout(stop, SILENCE_MS);
  };
  try {
    heard();
    const headers = { Accept: "text/event-stream" };
    if (lastSeq !== null) headers["Last-Event-ID"] = String(lastSeq);
    const response = await request("/events", { query: { recent: 50 }, headers, signal: inner.signal });
    liveState.set("live");
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      heard();
      const blocks = (rest + value).replaceAll("\r", "").split("\n\n");
      rest = blocks.pop();
      deliver(blocks.map(eventOf).filter((event) => event !== null));
    }
  } finally {
    clearTimeout(watchdog);
    signal.removeEventListener("abort", stop);
    if (!signal.aborted) liveState.set("polling");
  }
}

/** @returns {RunEvent | null} null: a comment */
function eventOf(block) {
  const lines = block.split("\n").filter((line) => line.startsWith("data:"));
  return lines.length ? JSON.parse(lines.map((line) => line.slice(5)).join("\n")) : null;
}

function deliver(events) {
  if (!events.length) return;
  lastSeq = events.at(-1).seq;
  recentEvents.set([...events.toReversed(), ...recentEvents.get()].slice(0, KEPT));
  for (const event of events) for (const listener of [...listeners]) listener(event);
}
