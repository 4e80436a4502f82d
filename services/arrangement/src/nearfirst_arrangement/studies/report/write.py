"""A study's report as a folder: HTML, Markdown, JSON, and the figures with their data."""

from collections.abc import Sequence
from pathlib import Path

from nearfirst.contracts.study_reports import StudyReport
from nearfirst_arrangement.studies.figures.render import FigureFiles
from nearfirst_arrangement.studies.report.html import to_html
from nearfirst_arrangement.studies.report.markdown import to_markdown


def report_files(report: StudyReport, figures: Sequence[FigureFiles]) -> dict[str, bytes]:
    """report.html, report.md and report.json, all three from the same structure.

    Args:
        report: what is said.
        figures: the most important first.
    """
    return {
        "report.html": to_html(report, {figure.name: figure.svg for figure in figures}).encode(),
        "report.md": to_markdown(report, [figure.name for figure in figures]).encode(),
        "report.json": report.model_dump_json(indent=2).encode() + b"\n",
    }


def write_report(report: StudyReport, figures: Sequence[FigureFiles], folder: Path) -> list[Path]:
    """Write the three files, and each figure's four, into a folder that is made when it isn't there.

    Returns:
        The paths, report.html first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, content in report_files(report, figures).items():
        paths.append(folder / name)
        paths[-1].write_bytes(content)
    for figure in figures:
        paths += figure.write(folder)
    return paths
