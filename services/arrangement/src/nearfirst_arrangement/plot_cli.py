"""`nearfirst plot`: a figure of what a server has, with its numbers and the spec that made it beside it."""

import json
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from nearfirst.client.api import Client
from nearfirst.client.output import AsJson, print_json
from nearfirst.client.run_kinds import Run, is_train_job
from nearfirst.contracts.evaluations import MetricName
from nearfirst.contracts.problems import InvalidInput
from nearfirst.contracts.reports import ArrangementReport
from nearfirst.data.writing import refuse_bad_output, whole_file
from nearfirst_arrangement.measures.run_figure import RunCurve, curves_csv, draw_runs, table_csv

_SUFFIXES = frozenset({".svg", ".png"})
_REPORT_COLUMNS = ("panel", "series", "start", "stop", "value")


class Subject(StrEnum):
    """What of an arrangement is drawn."""

    REPORT = "report"
    CURVE = "curve"


def plot(
    ids: Annotated[
        list[str],
        typer.Argument(metavar="ID...", help="A study, an arrangement, or any number of train jobs or of evaluations."),
    ],
    out: Annotated[
        Path | None, typer.Option(help="FILE.svg or FILE.png; FILE.csv and FILE.json go beside it. Default: ID.svg.")
    ] = None,
    of: Annotated[
        Subject, typer.Option(help="Of an arrangement: its report, or its similarity curve.")
    ] = Subject.REPORT,
    metric: Annotated[
        str | None,
        typer.Option(help="Of train jobs: test_loss (default), train_loss, ...; of evaluations: loss (default), ..."),
    ] = None,
    url: Annotated[str | None, typer.Option(help="The server; by default NEARFIRST_URL.")] = None,
    as_json: AsJson = False,
) -> None:
    """Draw a study, an arrangement, or runs over each other; its numbers (CSV) and its spec (JSON) go beside it."""
    out = out or Path(f"{ids[0]}.svg")
    for beside in (".csv", ".json"):
        refuse_bad_output(out, _SUFFIXES, inputs=(), beside=beside)
    kinds = {run_id[:4] for run_id in ids}
    with Client.from_settings(url) as client, Console(stderr=True).status("drawing"):
        if kinds == {"std_"} and len(ids) == 1:
            _plot_study(client, ids[0], out)
        elif kinds == {"arr_"} and len(ids) == 1:
            _plot_arrangement(client, ids[0], of, out)
        elif kinds in ({"job_"}, {"evl_"}):
            _plot_runs(client, ids, metric, out)
        else:
            raise InvalidInput(
                f"id: got {', '.join(ids)}; wanted one study (std_...), one arrangement (arr_...), or any number of "
                "train jobs (job_...) or of evaluations (evl_...)"
            )
    files = [str(out.with_suffix(suffix)) for suffix in (out.suffix, ".csv", ".json")]
    if as_json:
        print_json({"ids": ids, "files": files})
    else:
        typer.echo(files[0])


def _plot_study(client: Client, study_id: str, out: Path) -> None:
    table = out.with_suffix(".csv")
    client.study_figure(study_id, table)
    if len(table.read_text(encoding="utf-8").splitlines()) < 2:  # its heading alone
        table.unlink()
        state = client.study(study_id).state
        raise InvalidInput(f"{study_id} has nothing to draw: nothing is measured so far (it is {state})")
    client.study_figure(study_id, out)
    client.study_figure(study_id, out.with_suffix(".json"))


def _plot_arrangement(client: Client, arrangement_id: str, of: Subject, out: Path) -> None:
    found = client.arrangement(arrangement_id)
    if of is Subject.CURVE:
        points = client.similarity_curve(arrangement_id).points()
        columns = [name for name in type(points[0]).model_fields if getattr(points[0], name) is not None]
        rows: list[tuple[object, ...]] = [tuple(getattr(point, name) for name in columns) for point in points]
        table = table_csv(columns, rows)
        client.curve_figure(arrangement_id, out)
    else:
        client.report_figure(arrangement_id, out)
        assert found.report is not None  # the server drew it
        table = table_csv(_REPORT_COLUMNS, report_rows(found.report))
    about = {"arrangement": arrangement_id, "of": of.value, "digest": found.digest}
    _write_beside(out, table, about | {"spec": found.spec.model_dump(mode="json")})


def report_rows(report: ArrangementReport) -> list[tuple[object, ...]]:
    """The numbers of a report's panels: a value of a series for the positions from start to stop, without stop."""
    rows: list[tuple[object, ...]] = []
    if (distance := report.distance) is not None:
        parts = list(zip(distance.bounds, distance.bounds[1:], strict=False))
        for series in ("mean", "min", "lower_quartile", "upper_quartile", "max"):
            values = getattr(distance, series)
            rows += [("distance", series, *part, value) for part, value in zip(parts, values, strict=True)]
    if (mix := report.task_mix) is not None:
        parts = list(zip(mix.bounds, mix.bounds[1:], strict=False))
        for part, counts in zip(parts, mix.counts, strict=True):
            rows += [
                ("task mix", task, *part, count) for task, count in zip([*mix.tasks, "(others)"], counts, strict=True)
            ]
    if (coverage := report.coverage) is not None:
        for share in coverage.shares:
            rows += [
                ("coverage", f"cosine at least {level:g}", 0, share.num_rows, value)
                for level, value in zip(coverage.levels, share.covered, strict=True)
            ]
    return rows


def _plot_runs(client: Client, ids: Sequence[str], metric: str | None, out: Path) -> None:
    runs = [client.run(run_id) for run_id in dict.fromkeys(ids)]
    curves = [_curve(client, run, metric) for run in runs]
    with whole_file(out) as file:
        file.write(draw_runs(curves, format="png" if out.suffix == ".png" else "svg"))
    about = {"metric": curves[0].metric, "runs": {run.id: run.spec.model_dump(mode="json") for run in runs}}
    _write_beside(out, curves_csv(curves), about)


def _curve(client: Client, run: Run, metric: str | None) -> RunCurve:
    """What is measured of a run so far.

    Raises:
        InvalidInput: nothing, or no such metric.
    """
    if is_train_job(run.id):
        name = metric or "test_loss"
        points = [(row.step, row.value) for row in client.metrics(run.id, name)]
    else:
        name = _metric_name(metric or MetricName.LOSS)
        found = client.evaluation_curve(run.id, name)
        points = [(point.step, point.value) for point in found if point.value is not None]
    if not points:
        raise InvalidInput(f"{run.id} has nothing to draw: no {name} is measured so far (it is {run.state})")
    steps, values = zip(*sorted(points), strict=True)
    return RunCurve(run.id, name, steps, values)


def _metric_name(given: str) -> MetricName:
    try:
        return MetricName(given)
    except ValueError as error:
        raise InvalidInput(f"metric: got {given!r}, wanted one of {', '.join(MetricName)}") from error


def _write_beside(out: Path, table: bytes, about: dict[str, Any]) -> None:
    with whole_file(out.with_suffix(".csv")) as file:
        file.write(table)
    with whole_file(out.with_suffix(".json")) as file:
        file.write((json.dumps(about, indent=2) + "\n").encode())
