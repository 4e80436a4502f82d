/** The page's start. */
import { startLive } from "./core/live.js";
import { html, render } from "./core/ui.js";
import { Shell } from "./components/shell.js";

const root = document.getElementById("page");
root.replaceChildren();
render(html`<${Shell} />`, root);
startLive();
