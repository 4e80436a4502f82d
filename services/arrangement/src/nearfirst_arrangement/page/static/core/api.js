/** Requests to the API that serves this page. */
import { connection } from "./connection.js";
import { key, keyWanted } from "./key.js";

/** An answer that says no, or none at all (`status` 0). */
export class Problem extends Error {
  /**
   * @param {{status: number, title: string, detail: string, code?: string, errors?: {field: string, wanted: string}[]}} told
   */
  constructor({ status, title, detail, code = "", errors = [] }) {
    super(detail);
    this.status = status;
    this.title = title;
    this.code = code;
    this.errors = errors;
  }
}

/**
 * The address of an API path, below wherever this page is served.
 * @param {string} path begins with a slash
 * @param {Record<string, string | number | boolean | null | undefined | string[]>} [query] empty values are left out; each of
 * a list is given by itself
 * @returns {string}
 */
export function apiUrl(path, query = {}) {
  const url = new URL(`.${path}`, document.baseURI.split("#")[0]);
  for (const [name, given] of Object.entries(query)) {
    for (const value of Array.isArray(given) ? given : [given]) {
      if (value !== null && value !== undefined && value !== "") url.searchParams.append(name, String(value));
    }
  }
  return url.href;
}

/**
 * Send a request, with the key when there is one.
 * @param {string} path
 * @param {{method?: string, query?: object, body?: BodyInit, headers?: Record<string, string>, signal?: AbortSignal}} [options]
 * @returns {Promise<Response>} an answer of the 2xx kind
 * @throws {Problem} any other answer, or none
 */
export async function request(path, { method = "GET", query, body, headers = {}, signal } = {}) {
  const sentKey = key.get();
  if (sentKey !== null) headers = { ...headers, Authorization: `Bearer ${sentKey}` };
  let response;
  try {
    response = await fetch(apiUrl(path, query), { method, body, headers, signal, cache: "no-store" });
  } catch (error) {
    if (signal?.aborted) throw error;
    connection.failed();
    throw new Problem({ status: 0, title: "The API can't be reached", detail: "No answer came. Is it running?" });
  }
  connection.answered();
  if (response.ok) return response;
  const problem = await problemOf(response);
  if (response.status === 401 && sentKey === key.get()) keyWanted.set(problem.message);
  throw problem;
}

/**
 * GET as JSON.
 * @param {string} path
 * @param {object} [query]
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 */
export async function getJson(path, query, signal) {
  return (await request(path, { query, signal })).json();
}

/**
 * POST a JSON body, or none. `idempotencyKey` makes sending it twice harmless.
 * @param {string} path
 * @param {object} [body]
 * @param {{query?: object, idempotencyKey?: string}} [options]
 * @returns {Promise<any>}
 */
export async function postJson(path, body, { query, idempotencyKey } = {}) {
  const headers = body === undefined ? {} : { "Content-Type": "application/json" };
  if (idempotencyKey) headers["Idempotency-Key"] = idempotencyKey;
  const sent = body === undefined ? undefined : JSON.stringify(body);
  return (await request(path, { method: "POST", query, body: sent, headers })).json();
}

async function problemOf(response) {
  const common = { status: response.status, title: response.statusText || `HTTP ${response.status}` };
  try {
    return new Problem({ ...common, ...(await response.json()) });
  } catch {
    return new Problem({ ...common, detail: `The answer was HTTP ${response.status}, and not one of Nearfirst's.` });
  }
}
