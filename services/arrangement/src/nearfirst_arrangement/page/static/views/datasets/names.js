/** Datasets by their ids: they never change, so each is read once. */
import { getJson } from "../../core/api.js";
import { useLoaded } from "../../core/data.js";
import { link } from "../../core/router.js";
import { html } from "../../core/ui.js";

/** @type {Map<string, Promise<any>>} */
const known = new Map();

/**
 * A dataset by its id; null: there is none. What failed is asked for again.
 * @param {string} id
 * @returns {Promise<any>}
 */
export function datasetOf(id) {
  if (!known.has(id)) {
    const asked = getJson(`/datasets/${encodeURIComponent(id)}`);
    asked.catch(() => known.delete(id));
    known.set(id, asked);
  }
  return known.get(id);
}

/**
 * A dataset's name, which leads to it; its id until the name is known.
 * @param {{id: string, tasks?: string[] | null}} props `tasks`: what is taken of it, where that isn't all
 */
export function DatasetName({ id, tasks = null }) {
  const loaded = useLoaded(() => datasetOf(id), [id]);
  const name = loaded.data?.name;
  return html`<a href=${link(`/datasets/${id}`)} title=${id}>${name ?? html`<code>${id}</code>`}</a>${
    tasks ? html` <span class="quiet">${tasks.length === 1 ? tasks[0] : `${tasks.length} tasks`}</span>` : null}`;
}
