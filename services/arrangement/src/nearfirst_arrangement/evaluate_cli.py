"""`nearfirst evaluate`: ask a server to measure checkpoints, and follow it to the curve."""

import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from nearfirst.client.api import Client
from nearfirst.client.output import AsJson, print_json
from nearfirst.client.watch import follow
from nearfirst.contracts.arrangements import Fidelity
from nearfirst.contracts.evaluations import CurvePoint, EvaluationSpec, MetricName
from nearfirst.contracts.problems import InvalidInput, invalid_input_from_validation
from nearfirst.contracts.runs import RunState
from nearfirst.contracts.training import CheckpointTier


def evaluate(
    test: Annotated[str, typer.Option(metavar="DATASET", help="The test set: a dataset id (ds_...).")],
    train_job: Annotated[
        str | None, typer.Option(metavar="ID", help="Measure this job's checkpoints; those to come join.")
    ] = None,
    checkpoints: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[STEP=]FOLDER",
            help="Measure this folder on the server; may be repeated. Without STEP its name ends in it: step-000010.",
        ),
    ] = None,
    tasks: Annotated[list[str] | None, typer.Option(help="Only this task of the test set; may be repeated.")] = None,
    metrics: Annotated[str, typer.Option(help=f"Separated by commas: {', '.join(MetricName)}.")] = MetricName.LOSS,
    every: Annotated[int | None, typer.Option(help="Only checkpoints whose step is a multiple of it.")] = None,
    num_examples: Annotated[int | None, typer.Option(help="Measure a seeded draw of so many test examples.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the draw.")] = None,
    reward_model: Annotated[
        str | None, typer.Option(help="For the metric reward, in place of the server's own: a folder or a hub id.")
    ] = None,
    fidelity: Annotated[Fidelity | None, typer.Option(help="`paper` measures as the paper's code did.")] = None,
    priority: Annotated[int | None, typer.Option(help="Of evaluations that wait, the higher goes first.")] = None,
    url: Annotated[str | None, typer.Option(help="The server; by default NEARFIRST_URL.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Follow it to its end and print the curve.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure checkpoints on a test set. Prints the evaluation's id, or with --watch what came out.

    With --watch it exits 0 when the evaluation succeeded and 1 when it failed or was cancelled.
    """
    fields: dict[str, Any] = {
        "train_job": train_job,
        "checkpoints": [_folder(given) for given in checkpoints] if checkpoints else None,
        "test": {"dataset": test, "tasks": tasks} if tasks else test,
        "metrics": [name.strip() for name in metrics.split(",")],
        "every": every,
        "num_examples": num_examples,
        "seed": seed,
        "reward": None if reward_model is None else {"model": reward_model},
        "fidelity": fidelity,
        "priority": priority,
    }
    try:
        spec = EvaluationSpec.model_validate({name: value for name, value in fields.items() if value is not None})
    except ValidationError as error:
        raise invalid_input_from_validation(error, "options") from error
    with Client.from_settings(url) as client:
        accepted = client.evaluate(spec)
        if not watch:
            if as_json:
                print_json(accepted)
            else:
                typer.echo(accepted.id)
            return
        evaluation = follow(client, accepted.id)
        curve = client.evaluation_curve(accepted.id)
    if as_json:
        print_json({"evaluation": evaluation, "curve": curve})
    else:
        typer.echo(accepted.id)
        Console().print(curve_table(curve, spec.metrics))
    if evaluation.state is not RunState.SUCCEEDED:
        raise typer.Exit(1)


def curve_table(curve: Sequence[CurvePoint], metrics: Sequence[MetricName]) -> Table:
    """A row for each step, a column for each metric; `-` where nothing was measured."""
    values = {(point.step, point.metric): point.value for point in curve}
    table = Table("step", *metrics)
    for column in table.columns:
        column.justify = "right"
    for step in sorted({point.step for point in curve}):
        row = [values.get((step, metric)) for metric in metrics]
        table.add_row(str(step), *("-" if value is None else f"{value:.4f}" for value in row))
    return table


def _folder(given: str) -> dict[str, object]:
    """A folder and its step from `STEP=FOLDER`, or from the number that the folder's name ends in (`step-10/weights`).

    Raises:
        InvalidInput: no step is named.
    """
    if match := re.match(r"(\d+)=(.+)", given):
        return {"step": int(match[1]), "path": match[2]}
    path = PurePath(given)
    step = re.search(r"(\d+)$", path.parent.name if path.name == CheckpointTier.WEIGHTS else path.name)
    if step is None:
        raise InvalidInput(f"checkpoints: got {given!r}, whose name ends in no step; wanted STEP=FOLDER")
    return {"step": int(step[1]), "path": given}
