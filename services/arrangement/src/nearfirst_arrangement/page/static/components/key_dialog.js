/** Asks for the API key when the API wants one. */
import { enterKey, forgetKey, key, keyWanted } from "../core/key.js";
import { useStore } from "../core/store.js";
import { html, useState } from "../core/ui.js";
import { Dialog } from "./dialogs.js";

/** Open while the API refuses for want of a key. */
export function KeyDialog() {
  const reason = useStore(keyWanted);
  const [typed, setTyped] = useState("");
  const [isRemembered, setRemembered] = useState(false);
  if (reason === null) return null;
  const submit = (event) => {
    event.preventDefault();
    if (typed.trim() === "") return;
    enterKey(typed.trim(), isRemembered);
    setTyped("");
  };
  return html`<${Dialog} title="API key" onClose=${() => keyWanted.set(null)}>
    <form onSubmit=${submit}>
      <p class="quiet">${reason}</p>
      <label class="field"><span>Key</span>
        <input class="input mono" type="password" autocomplete="off" autofocus required spellcheck="false"
          value=${typed} onInput=${(event) => setTyped(event.currentTarget.value)} />
      </label>
      <label class="check">
        <input type="checkbox" checked=${isRemembered} onChange=${(event) => setRemembered(event.currentTarget.checked)} />
        Remember on this device
      </label>
      <p class="quiet">Otherwise it is forgotten when this tab is closed. It is sent as a header only.</p>
      <div class="dialog-foot">
        <button type="button" class="button" onClick=${() => keyWanted.set(null)}>Not now</button>
        <button type="submit" class="button primary">Use key</button>
      </div>
    </form>
  <//>`;
}

/** Forgets the key, or asks for one. */
export function KeyButton() {
  const held = useStore(key);
  return held === null
    ? html`<button type="button" class="button plain small" onClick=${() => keyWanted.set("Enter the key that requests are to be sent with.")}>Key</button>`
    : html`<button type="button" class="button plain small" onClick=${forgetKey}>Forget key</button>`;
}
