/** A run's id, with the way to its view where the page has one. */
import { kindOf, runLink } from "../core/kinds.js";
import { html } from "../core/ui.js";

/** @param {{id: string, kind?: string}} props `kind`: by default what the id tells */
export function RunLink({ id, kind = kindOf(id) }) {
  const href = runLink(kind, id);
  return href === null ? html`<code>${id}</code>` : html`<a href=${href}><code>${id}</code></a>`;
}
