/** A view's frame: title, panels. */
import { html, useEffect, useRef } from "../core/ui.js";
import { link } from "../core/router.js";

/**
 * A view: sets the document's title and, when it is opened, moves the focus to its heading.
 * @param {{title: string, heading?: any, hint?: any, crumbs?: [string, string][], actions?: any, children: any}} props
 * `heading`: what stands beside the title; `crumbs`: words and path of the views above
 */
export function View({ title, heading, hint, crumbs = [], actions, children }) {
  const headingElement = useRef(null);
  useEffect(() => {
    document.title = `${title} · Nearfirst`;
  }, [title]);
  useEffect(() => {
    if (View.isFirst) View.isFirst = false;
    else headingElement.current?.focus({ preventScroll: true });
    scrollTo(0, 0);
  }, []);
  return html`
    <div class="view-head">
      <div class="view-title">
        ${crumbs.length
          ? html`<nav class="crumbs" aria-label="Above this view">
              ${crumbs.map(([words, path]) => html`<span key=${path}><a href=${link(path)}>${words}</a> / </span>`)}
            </nav>`
          : null}
        <h1 tabindex="-1" ref=${headingElement}><span>${title}</span>${heading}</h1>
        ${hint ? html`<p>${hint}</p>` : null}
      </div>
      ${actions ? html`<div class="actions">${actions}</div>` : null}
    </div>
    ${children}
  `;
}
View.isFirst = true; // the page's own start: the focus stays where the browser put it

let panels = 0;

/**
 * A box with a heading.
 * @param {{title: string, hint?: any, actions?: any, isFlush?: boolean, children: any}} props isFlush: a table up to its edges
 */
export function Panel({ title, hint, actions, isFlush = false, children }) {
  const id = useRef(null);
  id.current ??= `panel-${(panels += 1)}`;
  return html`<section class="panel" aria-labelledby=${id.current}>
    <div class="panel-head">
      <h2 id=${id.current}>${title}</h2>
      ${actions ? html`<div class="actions">${actions}</div>` : null}
      ${hint ? html`<span class="hint">${hint}</span>` : null}
    </div>
    <div class=${isFlush ? "panel-body flush" : "panel-body"}>${children}</div>
  </section>`;
}
