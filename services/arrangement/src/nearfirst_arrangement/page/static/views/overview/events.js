import { Ago, StateBadge } from "../../components/basics.js";
import { Panel } from "../../components/layout.js";
import { RunLink } from "../../components/run_link.js";
import { Empty } from "../../components/states.js";
import { kindName } from "../../core/kinds.js";
import { recentEvents } from "../../core/live.js";
import { useStore } from "../../core/store.js";
import { html } from "../../core/ui.js";

const SHOWN = 20;

/** The newest changes of state, as they come in. */
export function EventsPanel() {
  const changes = useStore(recentEvents).filter((event) => event.type === "state").slice(0, SHOWN);
  return html`<${Panel} title="Recent changes">
    ${changes.length === 0
      ? html`<${Empty} title="Nothing has changed yet" />`
      : html`<ol class="feed">
          ${changes.map(
            (event) => html`<li key=${event.seq}>
              <span><${StateBadge} state=${event.data.state} /></span>
              <span title=${kindName(event.kind)}><${RunLink} kind=${event.kind} id=${event.run_id} /></span>
              <span class="quiet"><${Ago} at=${event.created_at} /></span>
            </li>`,
          )}
        </ol>`}
  <//>`;
}
