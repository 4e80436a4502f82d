/** Submit a study: from a preset, or from a spec of one's own; what it would take is shown before. */
import { Choice } from "../../components/basics.js";
import { TextField, errorOf } from "../../components/fields.js";
import { Panel, View } from "../../components/layout.js";
import { announce } from "../../core/announce.js";
import { postJson } from "../../core/api.js";
import { useAction, useJson } from "../../core/data.js";
import { goTo, setQuery, useRoute } from "../../core/router.js";
import { html, useRef, useState } from "../../core/ui.js";
import { seedsOf } from "./actions.js";
import { EstimatePanel } from "./estimate.js";
import { OwnSpec, SpecProblem } from "./own_spec.js";
import { PresetChoice, scaleOf } from "./preset_choice.js";

const SOURCES = [["preset", "From a preset"], ["own", "From a spec of your own"]];

/** The form. What is chosen is in the address, but for a text of one's own. */
export function NewStudy() {
  const { query } = useRoute();
  const source = query.source === "own" ? "own" : "preset";
  const presets = useJson("/studies/presets");
  const [datasets, setDatasets] = useState({});
  const [text, setText] = useState("");
  const [seeds, setSeeds] = useState("");
  const [estimate, setEstimate] = useState(null);
  const key = useRef(crypto.randomUUID());
  const preset = presets.data?.items.find((each) => each.name === query.preset) ?? presets.data?.items[0];
  const scale = preset && scaleOf(preset, query.scale);

  const makeSpec = async () => {
    const wanted = seeds.trim() ? seedsOf(seeds) : null;
    const chosen = Object.fromEntries(Object.entries(datasets).filter(([name, id]) => id && scale?.datasets.some((each) => each.name === name)));
    const request = source === "own" ? { text } : { preset: preset.name, scale: scale.name, datasets: chosen };
    const spec = await postJson("/studies/specs", request);
    return wanted ? { ...spec, seeds: wanted } : spec;
  };
  const estimating = useAction(async () => {
    const spec = await makeSpec();
    return { spec, ...(await postJson("/studies", spec, { query: { dry_run: true } })) };
  });
  const submitting = useAction(async () => postJson("/studies", await makeSpec(), { idempotencyKey: key.current }));
  const problem = submitting.problem ?? estimating.problem;
  const change = (act) => (value) => {
    act(value);
    setEstimate(null);
    estimating.forget();
    submitting.forget();
    key.current = crypto.randomUUID();
  };
  const check = async () => {
    submitting.forget();
    setEstimate(null);
    setEstimate((await estimating.run()) ?? null);
  };
  const run = async (event) => {
    event.preventDefault();
    estimating.forget();
    const accepted = await submitting.run();
    if (accepted === undefined) return;
    announce("The study is submitted.");
    goTo(`/studies/${accepted.id}`);
  };
  const isBusy = estimating.isBusy || submitting.isBusy;
  const canRun = !isBusy && (source === "own" ? text.trim() !== "" : Boolean(preset) && scale.datasets.every((each) => each.is_bundled || datasets[each.name]));
  return html`<${View} title="New study" crumbs=${[["Studies", "/studies"]]} hint="Orders of the training data, each trained with several seeds and measured on the same test set.">
    <${Choice} label="Where the study comes from" value=${source} options=${SOURCES} onChoose=${change((each) => setQuery({ source: each === "preset" ? null : each }))} />
    <form class="form-stack" onSubmit=${run}>
      ${source === "own"
        ? html`<${OwnSpec} text=${text} onText=${change(setText)} problem=${problem} />`
        : html`<${PresetChoice} presets=${presets} preset=${preset} scale=${scale} datasets=${datasets} onDatasets=${change(setDatasets)}
            onChoose=${change((changes) => setQuery(changes))} problem=${problem} />`}
      <${Panel} title="Seeds and start">
        <div class="form-stack">
          <div class="form-grid">
            <${TextField} label="Seeds" value=${seeds} onInput=${change(setSeeds)} error=${errorOf(problem, "seeds")}
              placeholder=${source === "preset" && scale ? scale.seeds.join(", ") : "as the spec says"}
              hint="With commas between; three or more tell a difference from chance." />
          </div>
          <${SpecProblem} problem=${problem} />
          <div class="actions">
            <button type="submit" class="button primary" disabled=${!canRun}>${submitting.isBusy ? "Submitting…" : "Run study"}</button>
            <button type="button" class="button" disabled=${!canRun} onClick=${check}>${estimating.isBusy ? "Working it out…" : "What would it take?"}</button>
          </div>
        </div>
      <//>
      ${estimate ? html`<${EstimatePanel} estimate=${estimate} />` : null}
    </form>
  <//>`;
}
