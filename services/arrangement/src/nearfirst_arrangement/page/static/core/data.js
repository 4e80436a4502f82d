/** Hooks that read from the API and keep what they read fresh. */
import { getJson } from "./api.js";
import { connection } from "./connection.js";
import { key } from "./key.js";
import { onEvent, onPoll } from "./live.js";
import { useStore } from "./store.js";
import { useCallback, useEffect, useRef, useState } from "./ui.js";

/**
 * @template T
 * @typedef {{data: T | undefined, problem: Error | null, isLoading: boolean, reload: () => void}} Loaded
 * `data` stays while it is read again; both `data` and `problem`: what is shown is old.
 */

/**
 * Load something now, when `inputs` change, with another key, and when the API is back.
 * @template T
 * @param {(signal: AbortSignal) => Promise<T>} load
 * @param {unknown[]} inputs what `load` depends on
 * @returns {Loaded<T>}
 */
export function useLoaded(load, inputs) {
  const usedKey = useStore(key);
  const revision = useStore(connection.revision);
  const [again, setAgain] = useState(0);
  const [state, setState] = useState({ inputs: "", data: undefined, problem: null, isLoading: true });
  const identity = JSON.stringify(inputs);
  useEffect(() => {
    const controller = new AbortController();
    setState((old) => ({ ...(old.inputs === identity ? old : { data: undefined, problem: null }), inputs: identity, isLoading: true }));
    load(controller.signal).then(
      (data) => controller.signal.aborted || setState({ inputs: identity, data, problem: null, isLoading: false }),
      (problem) => controller.signal.aborted || setState((old) => ({ ...old, problem, isLoading: false })),
    );
    return () => controller.abort();
  }, [identity, usedKey, revision, again]);
  const reload = useCallback(() => setAgain((count) => count + 1), []);
  const isOfOthers = state.inputs !== identity; // the first draw after the inputs changed
  return isOfOthers ? { data: undefined, problem: null, isLoading: true, reload } : { ...state, reload };
}

/**
 * GET a path as JSON; a null path loads nothing.
 * @param {string | null} path
 * @param {object} [query]
 * @returns {Loaded<any>}
 */
export function useJson(path, query = {}) {
  const load = async (signal) => (path === null ? undefined : getJson(path, query, signal));
  return useLoaded(load, [path, query]);
}

/**
 * The pages of a list, the first now and more on demand.
 * @param {string} path
 * @param {object} [query] filters; other ones begin anew
 * @param {number} [pageSize]
 * @returns {Loaded<any[]> & {hasMore: boolean, loadMore: () => void, isLoadingMore: boolean}}
 */
export function usePages(path, query = {}, pageSize = 50) {
  const identity = JSON.stringify([path, query]);
  const [asked, setAsked] = useState({ identity, count: pageSize });
  const count = asked.identity === identity ? asked.count : pageSize;
  const kept = useRef({ identity, data: undefined });
  const load = (signal) => listUpTo(path, query, count, pageSize, signal);
  const loaded = useLoaded(load, [path, query, count]);
  if (loaded.data !== undefined) kept.current = { identity, data: loaded.data };
  const shown = kept.current.identity === identity ? kept.current.data : undefined; // while more is loaded
  return {
    ...loaded,
    data: shown?.items,
    hasMore: shown?.hasMore ?? false,
    isLoadingMore: shown !== undefined && loaded.data === undefined && loaded.isLoading,
    loadMore: () => setAsked({ identity, count: count + pageSize }),
  };
}

async function listUpTo(path, query, count, pageSize, signal) {
  const items = [];
  let cursor;
  do {
    const limit = Math.min(count - items.length, 1000);
    const page = await getJson(path, { ...query, cursor, limit }, signal);
    items.push(...page.items);
    cursor = page.next_cursor;
  } while (cursor !== null && items.length < count);
  return { items, hasMore: cursor !== null };
}

/**
 * Read again when something happens to a run, at most every `everyMs`.
 * @param {() => void} reload
 * @param {(event: import("./live.js").RunEvent) => boolean} concerns whether an event is a reason
 * @param {number} [everyMs]
 */
export function useLiveReload(reload, concerns, everyMs = 1000) {
  const latest = useRef({ reload, concerns });
  latest.current = { reload, concerns };
  useEffect(() => {
    let timer = null;
    let lastMs = -Infinity;
    const now = () => {
      timer = null;
      lastMs = performance.now();
      latest.current.reload();
    };
    const soon = () => {
      timer ??= setTimeout(now, Math.max(0, lastMs + everyMs - performance.now()));
    };
    const stopEvents = onEvent((event) => latest.current.concerns(event) && soon());
    const stopPolls = onPoll(soon);
    return () => {
      stopEvents();
      stopPolls();
      clearTimeout(timer);
    };
  }, [everyMs]);
}

/**
 * Do something that changes the registry: says whether it is under way, and what went wrong.
 * @param {(...given: any[]) => Promise<any>} act
 * @returns {{run: (...given: any[]) => Promise<any>, isBusy: boolean, problem: Error | null, forget: () => void}}
 * `run` answers with what `act` does, or undefined when it failed
 */
export function useAction(act) {
  const [state, setState] = useState({ isBusy: false, problem: null });
  const run = async (...given) => {
    setState({ isBusy: true, problem: null });
    try {
      const done = await act(...given);
      setState({ isBusy: false, problem: null });
      return done;
    } catch (problem) {
      setState({ isBusy: false, problem });
      return undefined;
    }
  };
  return { ...state, run, forget: () => setState({ isBusy: false, problem: null }) };
}
