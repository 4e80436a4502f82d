"""A study's report and figures as files: what its spec asks for, of what was measured so far."""

import io
import zipfile
from collections.abc import Sequence
from dataclasses import replace

from nearfirst.contracts.studies import StudySpec
from nearfirst.contracts.study_reports import StudyReport
from nearfirst_arrangement.studies.figures.layouts import (
    datasets_figure,
    metrics_figure,
    rounds_figure,
    similarity_figure,
    study_figure,
    tasks_figure,
)
from nearfirst_arrangement.studies.figures.render import FigureFiles, render
from nearfirst_arrangement.studies.figures.spec import FigureSpec
from nearfirst_arrangement.studies.report.build import build_report
from nearfirst_arrangement.studies.report.write import report_files
from nearfirst_arrangement.studies.results import StudyResults

_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
"""The earliest that a ZIP knows: the same report gives the same bytes."""


def draw_figure(results: StudyResults, spec: StudySpec) -> FigureFiles:
    """The figure of the spec's layout.

    Raises:
        InvalidInput: no test example is of a task of `figure_tasks`.
    """
    parts = _parts(results, spec)
    return render(_layout(parts, spec), parts)


def draw_report(results: StudyResults, spec: StudySpec) -> dict[str, bytes]:
    """report.html, report.md and report.json, and each figure's four files, by name; raises as `draw_figure`."""
    figures = [draw_figure(results, spec)]
    if spec.figure != "study":
        figures.append(render(study_figure(results), [results]))
    files = report_files(build_report(results), figures)
    for figure in figures:
        contents = {"svg": figure.svg, "png": figure.png, "csv": figure.csv, "json": figure.json}
        files |= {f"{figure.name}.{suffix}": content for suffix, content in contents.items()}
    return files


def report_json(results: StudyResults) -> StudyReport:
    """The report as a structure, without figures."""
    return build_report(results)


def zipped(files: dict[str, bytes]) -> bytes:
    """Files as a ZIP archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, _ZIP_DATE), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _layout(parts: Sequence[StudyResults], spec: StudySpec) -> FigureSpec:
    first, second = parts[0], parts[1] if len(parts) > 1 else None
    match spec.figure:
        case "metrics":
            return metrics_figure(first)
        case "tasks":
            assert spec.figure_tasks is not None
            return tasks_figure(first, spec.figure_tasks)
        case "similarity":
            return similarity_figure(first, second)
        case "datasets":
            return datasets_figure(parts)
        case "rounds":
            return rounds_figure(first, second)
    return study_figure(first)


def _parts(results: StudyResults, spec: StudySpec) -> list[StudyResults]:
    """The study, cut into the panels that its arrangements name: each has those that name it or none."""
    if not spec.panels:
        return [results]
    panels_of = {arrangement.label: arrangement.panels for arrangement in spec.arrangements}
    return [
        _part(results, panel, [label for label, of in panels_of.items() if not of or panel in of])
        for panel in spec.panels
    ]


def _part(results: StudyResults, panel: str, labels: Sequence[str]) -> StudyResults:
    """What a panel shows. Labels lose an ` of PANEL` at their end: the same orders look the same in all panels."""
    names = {label: label.removesuffix(f" of {panel}") for label in labels}
    if len(set(names.values())) < len(labels):
        names = {label: label for label in labels}
    return replace(
        results,
        name=panel,
        arrangements=tuple(
            replace(each, label=names[each.label], baseline=names.get(each.baseline or ""))
            for each in results.arrangements
            if each.label in names
        ),
        baseline=names.get(results.baseline or ""),
    )
