/** A conversation as it is trained on, to read. */
import { count } from "../../core/format.js";
import { html, useState } from "../../core/ui.js";

const ROLES = { system: "System", user: "User", assistant: "Assistant" };
const LONG = 700; // characters
const FOLDED = 420;

/**
 * Turns one below the other, and what else would have been right.
 * @param {{example: {turns: {role: string, content: string}[], references: string[]}}} props
 */
export function Conversation({ example }) {
  const answers = example.turns.filter((turn) => turn.role === "assistant").map((turn) => turn.content);
  const others = example.references.filter((text) => !answers.includes(text));
  return html`<div class="conversation">
    ${example.turns.map((turn, at) => html`<div class=${`turn ${turn.role}`} key=${at}>
      <span class="turn-role">${ROLES[turn.role] ?? turn.role}</span>
      <${Folded} text=${turn.content} />
    </div>`)}
    ${others.length
      ? html`<details class="turn-others"><summary>${others.length === 1 ? "One more right answer" : `${count(others.length)} more right answers`}</summary>
          <ul>${others.map((text, at) => html`<li key=${at}><${Folded} text=${text} /></li>`)}</ul>
        </details>`
      : null}
  </div>`;
}

/** Text with its line breaks; a long one shows its beginning and unfolds. @param {{text: string}} props */
export function Folded({ text }) {
  const [isOpen, setOpen] = useState(false);
  if (text.length <= LONG) return html`<p class="text">${text || html`<span class="quiet">empty</span>`}</p>`;
  return html`<div>
    <p class="text">${isOpen ? text : beginning(text)}</p>
    <button type="button" class="button plain small" aria-expanded=${String(isOpen)} onClick=${() => setOpen(!isOpen)}>
      ${isOpen ? "Fold" : `All ${count(text.length)} characters`}
    </button>
  </div>`;
}

function beginning(text) {
  const cut = text.slice(0, FOLDED);
  return `${cut.slice(0, Math.max(cut.lastIndexOf(" "), FOLDED - 40))} …`;
}
