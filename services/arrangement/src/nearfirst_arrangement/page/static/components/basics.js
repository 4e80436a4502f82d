/** Small parts that every view uses. */
import { announce } from "../core/announce.js";
import { count, duration, ago, moment, shortened, words } from "../core/format.js";
import { html, useEffect, useState } from "../core/ui.js";
import { Icon } from "./icon.js";

/** A run's state. @param {{state: string}} props */
export function StateBadge({ state }) {
  return html`<span class=${`badge ${state}`}>${words(state)}</span>`;
}

/** A word that classifies something. @param {{children: any}} props */
export function Tag({ children }) {
  return html`<span class="badge plain">${children}</span>`;
}

/**
 * A bar with what is done and, while the run is under way, how long it still takes.
 * @param {{progress: {done: number, total: number | null, unit: string, eta_s: number | null} | null, state?: string, label?: string}} props
 */
export function Progress({ progress, state = "running", label = "Progress" }) {
  if (!progress) return null;
  const hasEta = state === "running" && progress.eta_s !== null && progress.done !== progress.total;
  const { done, total, unit, eta_s } = progress;
  const told = total === null ? `${count(done)} ${unit}` : `${count(done)} of ${count(total)} ${unit}`;
  return html`<div class="progress">
    <progress aria-label=${`${label}: ${told}`} max=${total ?? 1} value=${total === null ? undefined : done}></progress>
    <div class="progress-words">
      <span>${told}</span>
      ${hasEta ? html`<span class="nowrap">${duration(eta_s)} left</span>` : null}
    </div>
  </div>`;
}

/** How long ago, kept current; the moment itself as its title. @param {{at: string | null}} props */
export function Ago({ at }) {
  const [, setNow] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 20_000);
    return () => clearInterval(timer);
  }, []);
  return at ? html`<time datetime=${at} title=${moment(at)} class="nowrap">${ago(at)}</time>` : "–";
}

/** An id or digest with a button that copies it. @param {{text: string, length?: number, name?: string}} props */
export function Copyable({ text, length = 20, name = "it" }) {
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      announce(`Copied ${shortened(text, 40)}`);
    } catch {
      announce("The browser doesn't let this page copy; select the text instead.");
    }
  };
  return html`<span class="copyable">
    <code title=${text}>${shortened(text, length)}</code>
    <button type="button" class="button plain small square" onClick=${copy} aria-label=${`Copy ${name}`} title="Copy"><${Icon} name="copy" /></button>
  </span>`;
}

/** Names and values. @param {{items: ([string, any] | null | false)[]}} props values of null are left out */
export function Facts({ items }) {
  const shown = items.filter((item) => item && item[1] !== null && item[1] !== undefined);
  return html`<dl class="facts">
    ${shown.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}
  </dl>`;
}

/** The few numbers that matter most. @param {{items: ([string, any, string?] | null | false)[]}} props name, value, remark */
export function Stats({ items }) {
  return html`<dl class="stats">
    ${items.filter(Boolean).map(
      ([name, value, remark]) =>
        html`<div class="stat" key=${name}><dt>${name}</dt><dd>${value} ${remark ? html`<small>${remark}</small>` : null}</dd></div>`,
    )}
  </dl>`;
}

/** A JSON value to read. @param {{value: any, label: string}} props */
export function Json({ value, label }) {
  return html`<pre class="code-block" tabindex="0" role="region" aria-label=${label}>${JSON.stringify(value, null, 2)}</pre>`;
}

/**
 * Buttons of which one is pressed.
 * @param {{label: string, options: [string, string][], value: string, onChoose: (value: string) => void}} props value, words
 */
export function Choice({ label, options, value, onChoose }) {
  return html`<div class="tabs" role="group" aria-label=${label}>
    ${options.map(
      ([each, text]) =>
        html`<button type="button" key=${each} aria-pressed=${String(each === value)} onClick=${() => onChoose(each)}>${text}</button>`,
    )}
  </div>`;
}
