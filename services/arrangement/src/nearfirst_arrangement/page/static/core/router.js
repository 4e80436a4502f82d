/** Addresses: `#/runs/job_1?name=test_loss` is the view /runs/:id with a query. Every state worth a link is in it. */
import { makeStore, useStore } from "./store.js";

/** @typedef {{path: string, segments: string[], query: Record<string, string>}} Route */

function read() {
  const [path, search = ""] = (location.hash.slice(1) || "/").split("?");
  const segments = path.split("/").filter(Boolean).map(decoded);
  return { path: `/${segments.join("/")}`, segments, query: Object.fromEntries(new URLSearchParams(search)) };
}

function decoded(segment) {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}

/** Where the page is. @type {import("./store.js").Store<Route>} */
export const route = makeStore(read());
addEventListener("hashchange", () => route.set(read()));

/** @returns {Route} */
export const useRoute = () => useStore(route);

/**
 * The address of a view, for `href`.
 * @param {string} path begins with a slash
 * @param {Record<string, string | number | null | undefined>} [query] empty values are left out
 * @returns {string}
 */
export function link(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const search = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  return `#${path.split("/").map(encodeURIComponent).join("/")}${search ? `?${search}` : ""}`;
}

/**
 * Go to a view.
 * @param {string} path
 * @param {object} [query]
 */
export function goTo(path, query = {}) {
  location.hash = link(path, query);
}

/**
 * Change some of the query and stay in the view; the browser's history gets no entry.
 * @param {Record<string, string | number | null | undefined>} changes
 */
export function setQuery(changes) {
  const { segments, query } = route.get();
  history.replaceState(null, "", link(`/${segments.join("/")}`, { ...query, ...changes }));
  route.set(read());
}

/**
 * The parameters of a path that fits a pattern; null when it doesn't.
 * @param {string} pattern `/runs/:id`
 * @param {string[]} segments
 * @returns {Record<string, string> | null}
 */
export function matched(pattern, segments) {
  const parts = pattern.split("/").filter(Boolean);
  if (parts.length !== segments.length) return null;
  const found = {};
  for (const [at, part] of parts.entries()) {
    if (part.startsWith(":")) found[part.slice(1)] = segments[at];
    else if (part !== segments[at]) return null;
  }
  return found;
}
