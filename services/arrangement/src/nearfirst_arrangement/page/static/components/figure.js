/** Files of the API that a browser can't fetch by itself, since they need the key: figures to show, files to keep. */
import { request } from "../core/api.js";
import { useAction, useLoaded } from "../core/data.js";
import { announce } from "../core/announce.js";
import { html, useEffect, useState } from "../core/ui.js";
import { Await } from "./states.js";

/**
 * An image of the API.
 * @param {{path: string, query?: object, alt: string}} props
 */
export function Figure({ path, query = {}, alt }) {
  const loaded = useLoaded(async (signal) => (await request(path, { query, signal })).blob(), [path, query]);
  const [url, setUrl] = useState(null);
  useEffect(() => {
    if (!loaded.data) return setUrl(null);
    const made = URL.createObjectURL(loaded.data);
    setUrl(made);
    return () => URL.revokeObjectURL(made);
  }, [loaded.data]);
  return html`<${Await} of=${loaded} isBlock>
    ${() => html`<div class="figure">${url ? html`<img src=${url} alt=${alt} />` : null}</div>`}
  <//>`;
}

/**
 * A button that saves a file of the API.
 * @param {{path: string, query?: object, filename: string, label: string, kind?: string}} props
 */
export function DownloadButton({ path, query, filename, label, kind = "small" }) {
  const action = useAction(async () => {
    const url = URL.createObjectURL(await (await request(path, { query })).blob());
    const anchor = Object.assign(document.createElement("a"), { href: url, download: filename });
    anchor.click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
    return true;
  });
  useEffect(() => {
    if (action.problem) announce(`${filename}: ${action.problem.message}`);
  }, [action.problem]);
  return html`<button type="button" class=${`button ${kind}`} disabled=${action.isBusy} onClick=${action.run}>
    ${action.isBusy ? "Loading…" : label}
  </button>`;
}
