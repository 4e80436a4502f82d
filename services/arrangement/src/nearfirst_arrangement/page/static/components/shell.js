/** The page around the views: header, navigation, the state of the connection, messages. */
import { messages } from "../core/announce.js";
import { connection } from "../core/connection.js";
import { liveState } from "../core/live.js";
import { link, matched, useRoute } from "../core/router.js";
import { useStore } from "../core/store.js";
import { theme, toggleTheme } from "../core/theme.js";
import { html, useErrorBoundary } from "../core/ui.js";
import { AREAS } from "../views/index.js";
import { Icon } from "./icon.js";
import { KeyButton, KeyDialog } from "./key_dialog.js";
import { View } from "./layout.js";
import { ProblemNotice } from "./states.js";

const LIVE_WORDS = { connecting: "Connecting", live: "Live", polling: "Reading every few seconds", away: "Away" };

/** The whole page. */
export function Shell() {
  const { path, segments } = useRoute();
  const found = viewAt(segments);
  return html`
    <a class="skip-link" href="#main" onClick=${skipToMain}>Skip to the content</a>
    <header class="top"><div class="top-inner">
      <a class="brand" href=${link("/")}><${Mark} />Nearfirst</a>
      <nav class="nav" aria-label="Views">
        ${AREAS.map((area) => html`<a key=${area.path} href=${link(area.path)} aria-current=${area === found.area ? "page" : undefined}>${area.label}</a>`)}
      </nav>
      <div class="top-tools"><${LiveDot} /><${KeyButton} /><${ThemeButton} /></div>
    </div></header>
    <${AwayBanner} />
    <main id="main" class="view" tabindex="-1">
      <${Guarded} key=${found.key ?? path}><${found.view} ...${found.parameters} /><//>
    </main>
    <${KeyDialog} />
    <div class="toasts" role="status" aria-live="polite">
      ${useStore(messages).map((each) => html`<div class="toast" key=${each.number}>${each.text}</div>`)}
    </div>
  `;
}

function viewAt(segments) {
  for (const area of AREAS) {
    for (const [pattern, view] of Object.entries(area.views)) {
      const parameters = matched(pattern, segments);
      if (parameters) return { area, view, parameters, key: `/${segments.join("/")}` };
    }
  }
  return { area: null, view: NotFound, parameters: {}, key: null };
}

/** Draws its children, or what went wrong when one of them throws: the rest of the page goes on. */
function Guarded({ children }) {
  const [error, reset] = useErrorBoundary();
  return error ? html`<${ProblemNotice} problem=${error} title="This view can't be drawn" onRetry=${reset} />` : children;
}

function NotFound() {
  return html`<${View} title="No such view">
    <p>This address belongs to none of the page's views. <a href=${link("/")}>Go to the overview</a></p>
  <//>`;
}

function skipToMain(event) {
  event.preventDefault(); // the hash is the view's address
  document.getElementById("main").focus();
}

function AwayBanner() {
  const isAway = useStore(connection.isAway);
  return html`<div role="alert">
    ${isAway ? html`<div class="banner">API unreachable, trying again…</div>` : null}
  </div>`;
}

function LiveDot() {
  const isAway = useStore(connection.isAway);
  const live = useStore(liveState);
  const state = isAway ? "away" : live;
  return html`<span class=${`live ${state}`} title=${LIVE_WORDS[state]}>${state === "polling" ? "Polling" : LIVE_WORDS[state]}</span>`;
}

function ThemeButton() {
  const isDark = useStore(theme) === "dark";
  const words = isDark ? "Use the light theme" : "Use the dark theme";
  return html`<button type="button" class="button plain square" onClick=${toggleTheme} aria-label=${words} title=${words}><${Icon} name=${isDark ? "sun" : "moon"} /></button>`;
}

function Mark() {
  return html`<svg viewBox="0 0 32 32" aria-hidden="true"><rect width="32" height="32" rx="7" fill="#0072B2" /><circle cx="8" cy="24" r="3.5" fill="#fff" /><circle cx="16" cy="17" r="3" fill="#fff" opacity=".8" /><circle cx="22.5" cy="11.5" r="2.4" fill="#fff" opacity=".6" /><circle cx="27" cy="7" r="1.8" fill="#fff" opacity=".45" /></svg>`;
}
