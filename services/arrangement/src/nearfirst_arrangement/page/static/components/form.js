/** Fields of forms: what each is, what it means, and what the API found wrong with it. */
import { html, useRef } from "../core/ui.js";

let fields = 0;

/**
 * What a refusal says of each field, by name; "" has what belongs to none of them.
 * @param {import("../core/api.js").Problem | null} problem
 * @param {string[]} names of the fields that are shown; `select` takes what is said of `select.per_task`
 * @returns {Record<string, string>}
 */
export function fieldErrors(problem, names) {
  if (!problem) return {};
  const found = {};
  const told = problem.errors?.length ? problem.errors.map((each) => [each.field, each.wanted]) : [splitDetail(problem.message)];
  for (const [field, text] of told) {
    const name = names.filter((each) => field === each || field.startsWith(`${each}.`)).sort((a, b) => b.length - a.length)[0] ?? "";
    const said = name === "" && field && field !== "(whole)" ? `${field}: ${text}` : text;
    found[name] = name in found ? `${found[name]}; ${said}` : said;
  }
  return found;
}

/** A detail that begins with a parameter's name, as "limit: got 9, wanted at most 5". */
function splitDetail(detail) {
  const [, field, text] = /^([a-z_][\w.]*)(?::| ) *(.*)$/s.exec(detail) ?? [];
  return field ? [field, text.startsWith("got") ? `${text[0].toUpperCase()}${text.slice(1)}` : detail] : ["", detail];
}

/**
 * A field with its label, hint and error around whatever takes the input.
 * @param {{label: string, hint?: any, error?: string, children: (given: object) => any}} props
 * `children`: draws the control with the attributes that tie it to the words
 */
export function Field({ label, hint, error, children }) {
  const id = useRef(null);
  id.current ??= `field-${(fields += 1)}`;
  const draw = Array.isArray(children) ? children[0] : children;
  const described = [hint && `${id.current}-hint`, error && `${id.current}-error`].filter(Boolean).join(" ");
  const given = { id: id.current, "aria-describedby": described || undefined, "aria-invalid": error ? "true" : undefined };
  return html`<div class="field">
    <label for=${id.current}>${label}</label>
    ${draw(given)}
    ${hint ? html`<span class="field-hint" id=${`${id.current}-hint`}>${hint}</span>` : null}
    ${error ? html`<span class="field-error" id=${`${id.current}-error`}>${error}</span>` : null}
  </div>`;
}

/**
 * A line of text, or a number.
 * @param {{label: string, value: string, onChange: (value: string) => void, hint?: any, error?: string, type?: string,
 *   suggestions?: [string, string][]}} props
 * the rest goes to the input; `suggestions`: values that are offered, and what they are
 */
export function TextField({ label, value, onChange, hint, error, type = "text", suggestions, ...rest }) {
  return html`<${Field} label=${label} hint=${hint} error=${error}>
    ${(given) => html`
      <input class="input" type=${type} value=${value} autocomplete="off" spellcheck=${false} list=${suggestions ? `${given.id}-list` : undefined}
        ...${given} ...${rest} onInput=${(event) => onChange(event.currentTarget.value)} />
      ${suggestions ? html`<datalist id=${`${given.id}-list`}>${suggestions.map(([each, words]) => html`<option key=${each} value=${each}>${words}</option>`)}</datalist>` : null}
    `}
  <//>`;
}

/**
 * One of several.
 * @param {{label: string, value: string, options: [string, string][], onChange: (value: string) => void, hint?: any, error?: string}} props
 * value and words of each option; the rest goes to the select
 */
export function SelectField({ label, value, options, onChange, hint, error, ...rest }) {
  return html`<${Field} label=${label} hint=${hint} error=${error}>
    ${(given) => html`<select class="input" ...${given} ...${rest} value=${value} onChange=${(event) => onChange(event.currentTarget.value)}>
      ${options.map(([each, words]) => html`<option key=${each} value=${each} selected=${each === value}>${words}</option>`)}
    </select>`}
  <//>`;
}
