"""`nearfirst train` and `nearfirst verify`: training without any server."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from pydantic import ValidationError
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from nearfirst.client.exit_codes import ExitCode
from nearfirst.client.output import AsJson, print_json
from nearfirst.contracts.problems import CorruptArtifact, InvalidInput, invalid_input_from_validation
from nearfirst.contracts.progress import Interrupted
from nearfirst.contracts.training import LocalTrainSpec, TrainSettings
from nearfirst_training.events import Event, LogEvent, MetricEvent
from nearfirst_training.interrupt import StopRequest
from nearfirst_training.job import TrainingJob, TrainResult
from nearfirst_training.local import train_in_processes


def train(
    spec: Annotated[Path, typer.Argument(help="SPEC.yaml: settings, and `data` with train, order and test files.")],
    out: Annotated[Path, typer.Option(help="Folder for checkpoints, metrics and the receipt.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train on exactly the order that a spec names, measure the test loss, and write the receipt."""
    job = job_of_spec(spec, out, resume=resume)
    stop_request = StopRequest()
    stop_request.listen(signal.SIGINT, signal.SIGTERM)
    with _Display(stop_request).shown() as display:
        try:
            result = _train(job, display, stop_request)
        except Interrupted as error:
            typer.echo(f"interrupted; `nearfirst train {spec} --out {out} --resume` goes on", err=True)
            raise typer.Exit(ExitCode.INTERRUPTED) from error
    if as_json:
        print_json(result)
    else:
        _print_result(result, display.first_test_loss, out)


def _train(job: TrainingJob, display: "_Display", stop_request: StopRequest) -> TrainResult:
    """Train in this process, or in several of their own."""
    if job.settings.needs_torchrun:
        return train_in_processes(job, emit=display.emit, progress=display.progress, stop_request=stop_request)
    from nearfirst_training.loop import train as run_training

    return run_training(job, emit=display.emit, progress=display.progress)


def verify(
    folder: Annotated[Path, typer.Argument(help="Folder that `nearfirst train` wrote, or a downloaded run.")],
    as_json: AsJson = False,
) -> None:
    """Recompute a run's receipt from its order alone, and compare every trace of the run with it.

    Exits 1 when something differs.
    """
    from nearfirst_training.verify import verify_run

    try:
        verified = verify_run(folder)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, ArithmeticError) as error:
        reason = str(error).splitlines()[0]
        raise CorruptArtifact(f"{folder}: a file of the run is damaged: {type(error).__name__}: {reason}") from error
    if as_json:
        print_json({"receipt": verified.receipt, "checkpoints": verified.checkpoints})
        return
    table = Table(title=f"{folder}: everything agrees with the order")
    for column in ("what", "step", "receipt"):
        table.add_column(column, overflow="fold")
    receipt = verified.receipt
    table.add_row("order.jsonl", "", receipt.arrangement_digest)
    table.add_row("consumed.jsonl", f"1-{receipt.steps}", receipt.head)
    table.add_row("receipt.json", str(receipt.steps), receipt.head)
    for checkpoint in verified.checkpoints:
        table.add_row(f"checkpoint ({checkpoint.tier})", str(checkpoint.step), checkpoint.receipt_head)
    Console().print(table)


def job_of_spec(spec: Path, out: Path, *, resume: bool) -> TrainingJob:
    """The job that a SPEC.yaml describes; its paths are relative to the file.

    Raises:
        InvalidInput: the file can't be read, isn't YAML, or has an unknown, missing or wrong field.
    """
    local = _read_spec(spec)
    base = spec.resolve().parent
    model = local.model
    if model.name_or_path.startswith(".") or (base / model.name_or_path).is_dir():
        model = model.model_copy(update={"name_or_path": str(base / model.name_or_path)})
    data = local.data
    settings = TrainSettings(**(local.model_dump(exclude={"data", "model"}) | {"model": model}))
    return TrainingJob(
        settings=settings,
        train_examples=str(base / data.train),
        train_split=data.train_split,
        order=None if data.order is None else str(base / data.order),
        test_examples=None if data.test is None else str(base / data.test),
        test_split=data.test_split,
        evaluate_every=data.evaluate_every,
        out=str(out.resolve()),
        resume=resume,
    )


def _read_spec(path: Path) -> LocalTrainSpec:
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"spec {path} can't be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, KeyError, AttributeError, RecursionError) as error:  # its tags raise at will
        raise InvalidInput(f"spec {path} isn't YAML: {error}") from error
    if not isinstance(fields, dict):
        raise InvalidInput(f"spec {path}: wanted fields such as `model:` and `data:`, got {type(fields).__name__}")
    try:
        # As JSON, so that YAML's lists pass for tuples but strings don't pass for numbers they aren't.
        return LocalTrainSpec.model_validate_json(json.dumps(fields))
    except ValidationError as error:
        raise invalid_input_from_validation(error, f"spec {path}") from error
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"spec {path} has a value that JSON has no word for: {error}") from error


class _Display:
    """A progress bar of what runs, on stderr."""

    def __init__(self, stop_request: StopRequest) -> None:
        self._stop_request = stop_request
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[remark]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._tasks: dict[str, TaskID] = {}
        self._values: dict[str, float] = {}
        self.first_test_loss: float | None = None

    @contextmanager
    def shown(self) -> Iterator["_Display"]:
        """Show the bars while the block runs."""
        with self._bars:
            yield self

    def progress(self, done: int, total: int | None, unit: str) -> None:
        """Move the bar of a unit: rows are read, steps are trained."""
        if unit not in self._tasks:
            verb = {"rows": "preparing", "steps": "training"}.get(unit, unit)
            self._tasks[unit] = self._bars.add_task(verb, total=total, remark="")
        self._bars.update(self._tasks[unit], completed=done, total=total, remark=self._remark() if self._values else "")
        self._stop_request.check()

    def emit(self, event: Event) -> None:
        """Take note of measurements, print remarks."""
        if isinstance(event, MetricEvent):
            self._values[event.row.name] = event.row.value
            if event.row.name == "test_loss" and self.first_test_loss is None:
                self.first_test_loss = event.row.value
        elif isinstance(event, LogEvent):
            self._bars.console.print(event.message, markup=False)

    def _remark(self) -> str:
        shown: list[tuple[str, str, Any]] = [
            ("loss", "train_loss", ".3f"),
            ("test", "test_loss", ".3f"),
            ("tokens/s", "tokens_per_s", ",.0f"),
        ]
        return "  ".join(f"{label} {self._values[name]:{form}}" for label, name, form in shown if name in self._values)


def _print_result(result: TrainResult, first_test_loss: float | None, out: Path) -> None:
    """The closing table."""
    table = Table(title=str(out), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    rows = [("steps", str(result.steps)), ("tokens", f"{result.num_tokens:,}")]
    if result.train_loss is not None:
        rows.append(("training loss", f"{result.train_loss:.4f}"))
    if result.test_loss is not None:
        before = "" if first_test_loss is None else f"{first_test_loss:.4f} -> "
        rows.append(("test loss", f"{before}{result.test_loss:.4f}"))
    rows += [
        ("order", result.receipt.arrangement_digest),
        ("receipt", f"{result.receipt.head} ({'verified' if result.receipt.verified else 'NOT verified'})"),
        ("checkpoints", str(len(result.checkpoints))),
    ]
    for row in rows:
        table.add_row(*row)
    Console().print(table)
