/** What one checkpoint made of a test row. */
import { count } from "../../core/format.js";
import { html } from "../../core/ui.js";
import { metricName, valueOf } from "../studies/metrics.js";

const METRICS = ["loss", "rouge1", "rougeL", "exact_match", "reward"];

/** @param {{example: any, all: any[]}} props `all`: the row at every checkpoint, to find the best */
export function AnswerCard({ example, all }) {
  const measured = METRICS.filter((metric) => all.some((each) => each[metric] !== null));
  return html`<li class="answer-card">
    <h3>Step ${count(example.step)}</h3>
    ${example.prediction === null
      ? html`<p class="quiet">${all.some((each) => each.prediction !== null) ? "Not answered yet." : "No answers were asked for."}</p>`
      : html`<p class="passage" tabindex="0">${marked(example.prediction, example.references)}${example.prediction === "" ? html`<span class="quiet">(an empty answer)</span>` : null}</p>`}
    ${example.finish_reason === "length" ? html`<p class="quiet">cut off at the longest answer</p>` : null}
    <dl class="answer-values">
      ${measured.map((metric) => html`<div key=${metric} class=${isBest(example, all, metric) ? "best" : ""}>
        <dt>${metricName(metric)}</dt><dd>${valueOf(example[metric], metric)}${isBest(example, all, metric) ? html`<span class="visually-hidden"> (best)</span>` : null}</dd></div>`)}
    </dl>
  </li>`;
}

function isBest(example, all, metric) {
  const values = all.map((each) => each[metric]).filter((value) => value !== null);
  if (values.length < 2 || Math.min(...values) === Math.max(...values)) return false;
  return example[metric] === (metric === "loss" ? Math.min(...values) : Math.max(...values));
}

/** An answer, with the words that a reference has too marked. */
function marked(answer, references) {
  const known = new Set(references.flatMap((reference) => wordsOf(reference)));
  return answer.split(/(\s+)/).map((part, at) => (wordsOf(part).some((word) => known.has(word)) ? html`<mark key=${at}>${part}</mark>` : part));
}

const wordsOf = (text) => text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
