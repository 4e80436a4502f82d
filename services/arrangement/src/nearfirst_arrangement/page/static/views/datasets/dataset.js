/** One dataset. */
import { Ago, Copyable, Stats, Tag } from "../../components/basics.js";
import { View } from "../../components/layout.js";
import { Await } from "../../components/states.js";
import { useJson } from "../../core/data.js";
import { count } from "../../core/format.js";
import { link } from "../../core/router.js";
import { html } from "../../core/ui.js";
import { ExamplesPanel } from "./examples.js";
import { formatName } from "./formats.js";
import { TasksPanel } from "./tasks.js";

/** @param {{id: string}} props */
export function DatasetView({ id }) {
  const dataset = useJson(`/datasets/${encodeURIComponent(id)}`);
  return html`<${View} title=${dataset.data?.name ?? id} crumbs=${[["Datasets", "/datasets"]]}
    heading=${dataset.data && html`<${Tag}>${formatName(dataset.data.format)}<//>`}
    hint=${dataset.data && html`Added ${" "}<${Ago} at=${dataset.data.created_at} />`}
    actions=${dataset.data && html`
      <a class="button" href=${link("/arrangements/new", { test: id })}>Use as test set</a>
      <a class="button primary" href=${link("/arrangements/new", { train: id })}>Arrange it</a>`}>
    <${Await} of=${dataset} isBlock>${(data) => html`<${Shown} dataset=${data} />`}<//>
  <//>`;
}

function Shown({ dataset }) {
  return html`
    <${Stats} items=${[
      ["Rows", count(dataset.num_examples)],
      ["Tasks", count(dataset.num_tasks)],
      dataset.split && ["Split", dataset.split],
      ["Id", html`<${Copyable} text=${dataset.id} name="the id" />`],
      ["Digest of its rows", html`<${Copyable} text=${dataset.digest} length=${16} name="the digest" />`],
    ]} />
    <div class="columns wide-first">
      <${ExamplesPanel} dataset=${dataset} />
      <${TasksPanel} dataset=${dataset} />
    </div>
  `;
}
