/** Dialogs on the browser's own <dialog>: it keeps the focus inside and gives it back. */
import { html, useEffect, useRef, useState } from "../core/ui.js";
import { useAction } from "../core/data.js";
import { ProblemNotice } from "./states.js";

/**
 * A dialog that is open as long as it is drawn.
 * @param {{title: string, onClose: () => void, isLarge?: boolean, children: any}} props
 */
export function Dialog({ title, onClose, isLarge = false, children }) {
  const element = useRef(null);
  useEffect(() => {
    const dialog = element.current;
    const before = document.activeElement;
    dialog.showModal();
    return () => {
      dialog.close();
      before?.focus?.();
    };
  }, []);
  const cancel = (event) => {
    event.preventDefault();
    onClose();
  };
  return html`<dialog ref=${element} class=${isLarge ? "large" : ""} aria-label=${title} onCancel=${cancel}>
    <div class="dialog-body"><h2>${title}</h2>${children}</div>
  </dialog>`;
}

/**
 * A button that asks before it acts, and shows what went wrong.
 * @param {{label: string, title: string, question: any, confirm: string, act: () => Promise<any>, kind?: string, onDone?: () => void}} props
 */
export function ConfirmButton({ label, title, question, confirm, act, kind = "", onDone }) {
  const [isOpen, setOpen] = useState(false);
  const action = useAction(act);
  const close = () => {
    setOpen(false);
    action.forget();
  };
  const go = async () => {
    if ((await action.run()) === undefined) return;
    close();
    onDone?.();
  };
  return html`
    <button type="button" class=${`button ${kind}`} onClick=${() => setOpen(true)}>${label}</button>
    ${isOpen
      ? html`<${Dialog} title=${title} onClose=${close}>
          <p>${question}</p>
          ${action.problem ? html`<${ProblemNotice} problem=${action.problem} />` : null}
          <div class="dialog-foot">
            <button type="button" class="button" onClick=${close}>Back</button>
            <button type="button" class=${`button ${kind || "primary"}`} disabled=${action.isBusy} onClick=${go}>
              ${action.isBusy ? "One moment…" : confirm}
            </button>
          </div>
        <//>`
      : null}
  `;
}
