/** Pause, resume, cancel, more seeds. */
import { ConfirmButton, Dialog } from "../../components/dialogs.js";
import { TextField, errorOf } from "../../components/fields.js";
import { ProblemNotice } from "../../components/states.js";
import { announce } from "../../core/announce.js";
import { Problem, postJson } from "../../core/api.js";
import { useAction } from "../../core/data.js";
import { html, useState } from "../../core/ui.js";

const UNFINISHED = new Set(["queued", "running"]);
const ENDED_EARLY = new Set(["failed", "cancelled"]);

/** @param {{study: any, onChange: () => void}} props */
export function StudyActions({ study, onChange }) {
  const path = `/studies/${encodeURIComponent(study.id)}`;
  const isUnfinished = UNFINISHED.has(study.state);
  const button = (verb, given) => html`<${ConfirmButton} key=${verb} act=${() => postJson(`${path}/${verb}`)} onDone=${() => done(onChange, given.after)} ...${given} />`;
  return html`
    <${SeedsButton} study=${study} path=${path} onChange=${onChange} />
    ${isUnfinished && !study.is_paused
      ? button("pause", { label: "Pause", title: "Pause this study?", confirm: "Pause", after: "The study is paused.",
          question: "Nothing more of it is begun. Trainings that are under way save their state and go back to the queue." })
      : null}
    ${study.is_paused || ENDED_EARLY.has(study.state)
      ? button("resume", { label: "Resume", kind: "primary", title: "Resume this study?", confirm: "Resume", after: "The study goes on.",
          question: "Trainings go on from their last states; what has succeeded isn't done again." })
      : null}
    ${isUnfinished
      ? button("cancel", { label: "Cancel", kind: "danger", title: "Cancel this study?", confirm: "Cancel the study", after: "The study is cancelled.",
          question: "It ends now, and with it the runs that nobody else needs. What was measured stays, and it can be resumed." })
      : null}
  `;
}

function done(onChange, words) {
  announce(words);
  onChange();
}

/** Seeds as they are typed: `3, 4 5`. @param {string} text @returns {number[]} */
export function seedsOf(text) {
  const parts = text.split(/[\s,;]+/).filter(Boolean);
  const wrong = parts.find((part) => !/^\d+$/.test(part));
  if (wrong !== undefined || parts.length === 0) {
    const wanted = `wanted whole numbers with commas between, got ${wrong ?? "none"}`;
    throw new Problem({ status: 422, title: "Seeds", detail: `seeds: ${wanted}`, errors: [{ field: "seeds", wanted }] });
  }
  return parts.map(Number);
}

function SeedsButton({ study, path, onChange }) {
  const [isOpen, setOpen] = useState(false);
  const next = Math.max(...study.spec.seeds) + 1;
  const [typed, setTyped] = useState("");
  const action = useAction(async () => postJson(`${path}/seeds`, { seeds: seedsOf(typed) }));
  const open = () => {
    setTyped(String(next));
    setOpen(true);
  };
  const close = () => {
    setOpen(false);
    action.forget();
  };
  const submit = async (event) => {
    event.preventDefault();
    if ((await action.run()) === undefined) return;
    close();
    done(onChange, "The study goes on with more seeds.");
  };
  const error = errorOf(action.problem, "seeds");
  return html`
    <button type="button" class="button" onClick=${open}>Add seeds</button>
    ${isOpen
      ? html`<${Dialog} title="Add seeds" onClose=${close}>
          <form onSubmit=${submit}>
            <${TextField} label="Seeds" value=${typed} onInput=${setTyped} error=${error} isRequired
              hint=${`It has ${study.spec.seeds.join(", ")}. Each adds ${study.spec.arrangements.length} trainings.`} />
            ${action.problem && !error ? html`<${ProblemNotice} problem=${action.problem} />` : null}
            <div class="dialog-foot">
              <button type="button" class="button" onClick=${close}>Back</button>
              <button type="submit" class="button primary" disabled=${action.isBusy}>${action.isBusy ? "One moment…" : "Add"}</button>
            </div>
          </form>
        <//>`
      : null}
  `;
}
