/** Fields of forms: label, hint, and what the API says is wrong with them. */
import { html, useRef } from "../core/ui.js";

let fields = 0;

/**
 * What a problem says of a field, and of those below it.
 * @param {import("../core/api.js").Problem | null} problem
 * @param {string} name dotted: `generation.temperature`
 * @returns {string | null}
 */
export function errorOf(problem, name) {
  if (!problem) return null;
  const isOfIt = (field) => field === name || field.startsWith(`${name}.`);
  const listed = (problem.errors ?? []).find(({ field, wanted }) => isOfIt(field) || isOfIt(wanted.split(":")[0]));
  if (listed) return listed.field === name ? listed.wanted : `${listed.field}: ${listed.wanted}`;
  return isOfIt(problem.message.split(":")[0]) ? problem.message : null;
}

/**
 * A labelled field; `children` is given the id and what describes it, as attributes.
 * @param {{label: string, hint?: any, error?: string | null, children: (attributes: object) => any}} props
 */
export function Field({ label, hint, error, children }) {
  const id = useRef(null);
  id.current ??= `field-${(fields += 1)}`;
  const show = Array.isArray(children) ? children[0] : children;
  const about = `${id.current}-about`;
  const attributes = { id: id.current, "aria-describedby": about, "aria-invalid": error ? "true" : undefined };
  return html`<div class=${error ? "field wrong" : "field"}>
    <label for=${id.current}>${label}</label>
    ${show(attributes)}
    <span class="field-about" id=${about}>${error ? html`<strong class="field-error">${error}</strong>` : hint}</span>
  </div>`;
}

/**
 * A text or a number.
 * @param {{label: string, value: string, onInput: (value: string) => void, hint?: any, error?: string | null, type?: string,
 *   placeholder?: string, min?: number, step?: string, isRequired?: boolean}} props
 */
export function TextField({ label, value, onInput, hint, error, type = "text", placeholder, min, step, isRequired = false }) {
  return html`<${Field} label=${label} hint=${hint} error=${error}>
    ${(attributes) => html`<input class="input" ...${attributes} type=${type} value=${value} placeholder=${placeholder} min=${min}
      step=${step ?? (type === "number" ? "any" : undefined)} required=${isRequired} autocomplete="off"
      onInput=${(event) => onInput(event.currentTarget.value)} />`}
  <//>`;
}

/**
 * One of several.
 * @param {{label: string, value: string, options: [string, string][], onChoose: (value: string) => void, hint?: any,
 *   error?: string | null, none?: string}} props `none`: words of the empty choice; left out: there is none
 */
export function SelectField({ label, value, options, onChoose, hint, error, none }) {
  return html`<${Field} label=${label} hint=${hint} error=${error}>
    ${(attributes) => html`<select class="input" ...${attributes} value=${value} onChange=${(event) => onChoose(event.currentTarget.value)}>
      ${none === undefined ? null : html`<option value="">${none}</option>`}
      ${options.map(([each, words]) => html`<option key=${each} value=${each} selected=${each === value}>${words}</option>`)}
    </select>`}
  <//>`;
}
