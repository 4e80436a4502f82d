/** A place to drop a file on, or to choose one. */
import { bytes } from "../../core/format.js";
import { html, useRef, useState } from "../../core/ui.js";

/**
 * @param {{file: File | null, onFile: (file: File) => void, error?: string, hint: any, isDisabled?: boolean}} props
 */
export function Dropzone({ file, onFile, error, hint, isDisabled = false }) {
  const [isOver, setOver] = useState(false);
  const input = useRef(null);
  const take = (files) => files?.length && !isDisabled && onFile(files[0]);
  const over = (event) => {
    event.preventDefault();
    setOver(!isDisabled);
  };
  const drop = (event) => {
    event.preventDefault();
    setOver(false);
    take(event.dataTransfer.files);
  };
  return html`<div class="field">
    <div class=${`dropzone${isOver ? " over" : ""}${error ? " wrong" : ""}`} onDragOver=${over} onDragLeave=${() => setOver(false)} onDrop=${drop}>
      ${file
        ? html`<strong>${file.name}</strong><span class="quiet">${bytes(file.size)}</span>`
        : html`<strong>Drop a file here</strong><span class="quiet">${hint}</span>`}
      <input ref=${input} id="dataset-file" class="visually-hidden" type="file" disabled=${isDisabled} tabindex="-1" aria-hidden="true"
        onChange=${(event) => take(event.currentTarget.files)} />
      <button type="button" class="button" disabled=${isDisabled} aria-describedby=${error ? "dataset-file-error" : undefined}
        onClick=${() => input.current.click()}>${file ? "Choose another file" : "Choose a file"}</button>
    </div>
    ${error ? html`<span class="field-error" id="dataset-file-error" role="alert">${error}</span>` : null}
  </div>`;
}
