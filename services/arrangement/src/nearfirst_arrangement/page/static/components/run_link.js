/** A run's id, with the way to its view where the page has one. */
import { runLink } from "../core/kinds.js";
import { html } from "../core/ui.js";

/** @param {{kind: string, id: string}} props */
export function RunLink({ kind, id }) {
  const href = runLink(kind, id);
  return href === null ? html`<code>${id}</code>` : html`<a href=${href}><code>${id}</code></a>`;
}
