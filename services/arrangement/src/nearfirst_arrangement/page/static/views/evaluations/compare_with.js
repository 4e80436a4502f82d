/** Lay another evaluation's curve over this one's. */
import { useJson } from "../../core/data.js";
import { setQuery } from "../../core/router.js";
import { html } from "../../core/ui.js";
import { MOST_COMPARED } from "./curves.js";

const OFFERED = 100;

/** @param {{id: string, others: string[]}} props */
export function CompareWith({ id, others }) {
  const recent = useJson("/evaluations", { order: "newest", limit: OFFERED });
  const offered = (recent.data?.items ?? []).filter((each) => each.id !== id && !others.includes(each.id));
  if (offered.length === 0) return null;
  const choose = (event) => {
    const chosen = event.currentTarget.value;
    if (chosen) setQuery({ compare: [...others, chosen].join(",") });
  };
  return html`<div class="filters">
    <label class="field"><span>Compare with</span>
      <select class="input" value="" onChange=${choose} disabled=${others.length >= MOST_COMPARED - 1}>
        <option value="">choose an evaluation</option>
        ${offered.map((each) => html`<option key=${each.id} value=${each.id}>${each.id}${each.spec.train_job ? ` of ${each.spec.train_job}` : ""}</option>`)}
      </select>
    </label>
  </div>`;
}
