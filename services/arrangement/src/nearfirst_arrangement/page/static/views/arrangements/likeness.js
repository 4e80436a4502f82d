/** Rows that are too like the test set, and texts that the encoder cut. */
import { Panel } from "../../components/layout.js";
import { count, number, percent } from "../../core/format.js";
import { setQuery } from "../../core/router.js";
import { html } from "../../core/ui.js";

const SHOWN = 8;

/** Leaks, near duplicates and truncation. @param {{report: any}} props */
export function LikenessPanel({ report }) {
  const { leaks, near_duplicates: near, truncation } = report;
  return html`<${Panel} title="Too near?" hint="Rows of the order whose text is a test row's, or nearly.">
    <div class="checks">
      <${Check} isGood=${leaks.text.num_rows === 0} name="Same text" matches=${leaks.text} means="Question and answer are a test row's: the test measures memory." />
      <${Check} isGood=${leaks.instruction.num_rows === 0} name="Same question" matches=${leaks.instruction} means="The question is a test row's; the answer may differ." />
      ${near
        ? html`<${Check} isGood=${near.num_rows === 0} name="Near duplicates" matches=${near} means=${`Similarity to a test row above ${number(near.threshold)}.`} />`
        : null}
      <${Cut} name="Cut train texts" cut=${truncation.train} />
      <${Cut} name="Cut test texts" cut=${truncation.test} />
    </div>
  <//>`;
}

function Check({ name, matches, isGood, means }) {
  return html`<div class="check-line">
    <div class="check-head"><strong>${name}</strong><span class=${`badge plain ${isGood ? "succeeded" : "failed"}`}>${isGood ? "none" : `${count(matches.num_rows)} rows, ${percent(matches.share)}`}</span></div>
    <span class="quiet">${means}</span>
    ${matches.examples.length
      ? html`<details><summary>See ${matches.examples.length > SHOWN ? "some" : "them"}</summary>
          <ul class="matches">${matches.examples.slice(0, SHOWN).map((match) => html`<li key=${match.position}>
            <button type="button" class="button plain small" onClick=${() => lookAt(match.position)}>Position ${count(match.position)}</button>
            <span><code>${match.train_id}</code> is like <code>${match.test_id}</code>${match.similarity === undefined ? null : `, ${number(match.similarity, 4)}`}</span>
          </li>`)}</ul>
        </details>`
      : null}
  </div>`;
}

/** Texts longer than the encoder's limit; null: nobody counted. */
function Cut({ name, cut }) {
  if (cut === null) return null;
  return html`<div class="check-line">
    <div class="check-head"><strong>${name}</strong><span class=${`badge plain ${cut.num_rows === 0 ? "succeeded" : "queued"}`}>${cut.num_rows === 0 ? "none" : `${count(cut.num_rows)} rows, ${percent(cut.share)}`}</span></div>
    ${cut.num_rows === 0 ? null : html`<span class="quiet">Their ends have no part in the similarity: they are longer than the encoder reads.</span>`}
  </div>`;
}

function lookAt(position) {
  setQuery({ from: "position", position });
  document.getElementById("rows-panel")?.scrollIntoView({ block: "start" });
}
