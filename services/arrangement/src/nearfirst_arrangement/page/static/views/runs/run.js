import { StateBadge } from "../../components/basics.js";
import { Panel, View } from "../../components/layout.js";
import { Json } from "../../components/basics.js";
import { Await } from "../../components/states.js";
import { useJson, useLiveReload } from "../../core/data.js";
import { html } from "../../core/ui.js";

/** One train job. @param {{id: string}} props */
export function RunView({ id }) {
  const job = useJson(`/train-jobs/${encodeURIComponent(id)}`);
  useLiveReload(job.reload, (event) => event.run_id === id);
  return html`<${View} title=${id} crumbs=${[["Runs", "/runs"]]} heading=${job.data && html`<${StateBadge} state=${job.data.state} />`}>
    <${Await} of=${job}>${(data) => html`<${Panel} title="Spec"><${Json} value=${data.spec} label="Spec" /><//>`}<//>
  <//>`;
}
