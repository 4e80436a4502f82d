/** The report and the figure as files. */
import { DownloadButton } from "../../components/figure.js";
import { Panel } from "../../components/layout.js";
import { html } from "../../core/ui.js";

const REPORTS = [["html", "HTML"], ["md", "Markdown"], ["json", "JSON"], ["zip", "All as ZIP"]];
const FIGURES = [["svg", "SVG"], ["png", "PNG"], ["csv", "Its numbers as CSV"]];

/** @param {{study: any, path: string}} props */
export function DownloadsPanel({ study, path }) {
  const name = study.spec.name.replaceAll(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "") || study.id;
  return html`<${Panel} title="To keep" hint="Made when asked for, of what was measured so far.">
    <div class="downloads">
      <div class="row" role="group" aria-label="Report"><span class="quiet">Report</span>
        ${REPORTS.map(([format, label]) => html`<${DownloadButton} key=${format} path=${`${path}/report`} query=${{ format }} filename=${`${name}.${format}`} label=${label} />`)}
      </div>
      <div class="row" role="group" aria-label="Figure"><span class="quiet">Figure</span>
        ${FIGURES.map(([format, label]) => html`<${DownloadButton} key=${format} path=${`${path}/figure.${format}`} filename=${`${name}.${format}`} label=${label} />`)}
      </div>
    </div>
  <//>`;
}
