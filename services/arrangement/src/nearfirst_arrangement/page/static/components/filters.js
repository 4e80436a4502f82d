/** Filters of lists; what they are set to is in the address. */
import { setQuery } from "../core/router.js";
import { html, useEffect, useRef, useState } from "../core/ui.js";
import { words } from "../core/format.js";

const TYPING_MS = 250;
const STATES = ["queued", "running", "cancelling", "succeeded", "failed", "cancelled"];

/** A text to look for, in the query parameter `name`. @param {{name?: string, label: string, value?: string}} props */
export function SearchFilter({ name = "text", label, value = "" }) {
  const [typed, setTyped] = useState(value);
  const timer = useRef(null);
  useEffect(() => () => clearTimeout(timer.current), []);
  const type = (event) => {
    const text = event.currentTarget.value;
    setTyped(text);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => setQuery({ [name]: text.trim() }), TYPING_MS);
  };
  return html`<label class="field grow"><span>${label}</span>
    <input class="input" type="search" value=${typed} onInput=${type} autocomplete="off" maxlength="200" />
  </label>`;
}

/**
 * One of several, in the query parameter `name`.
 * @param {{name: string, label: string, value?: string, options: [string, string][], all?: string}} props value and words of each
 */
export function SelectFilter({ name, label, value = "", options, all = "All" }) {
  return html`<label class="field"><span>${label}</span>
    <select class="input" value=${value} onChange=${(event) => setQuery({ [name]: event.currentTarget.value })}>
      <option value="">${all}</option>
      ${options.map(([each, text]) => html`<option key=${each} value=${each} selected=${each === value}>${text}</option>`)}
    </select>
  </label>`;
}

/** A run's state, in the query parameter `state`. @param {{value?: string}} props */
export function StateFilter({ value }) {
  return html`<${SelectFilter} name="state" label="State" value=${value} options=${STATES.map((each) => [each, words(each)])} />`;
}
