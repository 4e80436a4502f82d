"""`nearfirst plot`: a figure, its numbers and its spec; runs without numbers are refused."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import typer
from fastapi import FastAPI
from fastapi.responses import Response
from tests.support.served import served
from typer.testing import CliRunner

from nearfirst.contracts.problems import InvalidInput
from nearfirst_arrangement.plot_cli import plot

STUDY = "std_1"
STUDY_SPEC = {
    "name": "s",
    "train": "ds_1",
    "test": "ds_2",
    "arrangements": [{"label": "a", "method": "as_is"}],
    "training": {"model": {"name_or_path": "m"}},
}
METRICS = {"job_1": {"test_loss": [(0, 3.0), (10, 2.0)]}, "job_2": {"test_loss": [(10, 1.5), (0, 3.5)]}, "job_3": {}}
HEADING = b"panel,step,mean\n"
command = typer.Typer()
command.command()(plot)


def server(figure_csv: bytes) -> FastAPI:
    app = FastAPI()

    @app.get("/train-jobs/{job}")
    def show(job: str) -> dict[str, Any]:
        return {"id": job, "state": "queued", "spec": {"dataset": "ds_1", "model": {"name_or_path": "m"}}}

    @app.get("/train-jobs/{job}/metrics")
    def metrics(job: str, name: str) -> dict[str, Any]:
        points = METRICS[job].get(name, [])
        return {
            "items": [{"step": step, "name": name, "value": value} for step, value in points],
            "next_cursor": None,
        }

    @app.get(f"/studies/{STUDY}")
    def study() -> dict[str, Any]:
        return {
            "id": STUDY, "state": "running", "is_paused": False, "spec": STUDY_SPEC,
            "created_at": "2026-01-01T00:00:00Z",
        }  # fmt: skip

    @app.get(f"/studies/{STUDY}/figure.{{format}}")
    def figure(format: str) -> Response:
        return Response({"csv": figure_csv, "svg": b"<svg/>", "json": b'{"name": "study"}'}[format])

    return app


@pytest.fixture
def run(tmp_path: Path) -> Any:
    def invoke(*arguments: str, figure_csv: bytes = HEADING + b"1,5,2.5\n") -> Any:
        with served(server(figure_csv)) as url:
            ended = CliRunner().invoke(command, [*arguments, "--url", url])
        if isinstance(ended.exception, InvalidInput):
            raise ended.exception
        return ended

    return invoke


def test_runs_are_drawn_over_each_other_with_their_points_and_specs_beside(run: Any, tmp_path: Path) -> None:
    out = tmp_path / "runs.svg"
    ended = run("job_1", "job_2", "--out", str(out), "--json")
    assert ended.exit_code == 0, ended.output
    files = json.loads(ended.stdout)["files"]
    assert [Path(file).name for file in files] == ["runs.svg", "runs.csv", "runs.json"]
    picture = out.read_text()
    assert picture.startswith("<?xml")
    rows = list(csv.DictReader((tmp_path / "runs.csv").read_text().splitlines()))
    assert [(row["run"], int(row["step"]), float(row["value"])) for row in rows] == [
        ("job_1", 0, 3.0),
        ("job_1", 10, 2.0),
        ("job_2", 0, 3.5),
        ("job_2", 10, 1.5),
    ]
    about = json.loads((tmp_path / "runs.json").read_text())
    assert about["metric"] == "test_loss"
    assert about["runs"]["job_2"]["dataset"] == "ds_1"


def test_a_png_is_a_png(run: Any, tmp_path: Path) -> None:
    run("job_1", "--out", str(tmp_path / "one.png"))
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")


def test_a_studys_figure_comes_with_its_numbers_and_what_it_shows(run: Any, tmp_path: Path) -> None:
    ended = run(STUDY, "--out", str(tmp_path / "figure.svg"))
    assert ended.stdout == f"{tmp_path / 'figure.svg'}\n"
    assert (tmp_path / "figure.csv").read_bytes() == HEADING + b"1,5,2.5\n"
    assert json.loads((tmp_path / "figure.json").read_text()) == {"name": "study"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("job_3",), r"job_3 has nothing to draw: no test_loss is measured so far \(it is queued\)"),
        (("job_1", "job_3"), "job_3 has nothing to draw"),
        (("job_1", "--metric", "grad_norm"), "no grad_norm is measured"),
        (("job_1", STUDY), "id: got job_1, std_1; wanted one study"),
        ((STUDY, STUDY), "wanted one study"),
    ],
)
def test_what_has_nothing_to_draw_is_refused_and_leaves_no_file(
    run: Any, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    with pytest.raises(InvalidInput, match=words):
        run(*arguments, "--out", str(tmp_path / "x.svg"))
    assert list(tmp_path.iterdir()) == []


def test_a_study_without_a_measurement_is_refused(run: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"std_1 has nothing to draw: nothing is measured so far \(it is running\)"):
        run(STUDY, "--out", str(tmp_path / "x.svg"), figure_csv=HEADING)
    assert list(tmp_path.iterdir()) == []


def test_a_figure_of_another_format_is_refused(run: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"wanted a name that ends in \.png or \.svg"):
        run("job_1", "--out", str(tmp_path / "x.pdf"))
