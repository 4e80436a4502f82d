"""`nearfirst watch`: a run's live progress from the event stream."""

import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from nearfirst.client.api import Client
from nearfirst.client.events import GIVE_UP_S
from nearfirst.client.output import AsJson, print_json
from nearfirst.client.run_kinds import Run, is_train_job
from nearfirst.contracts import runs
from nearfirst.contracts.evaluations import Evaluation
from nearfirst.contracts.runs import RunEvent, RunState
from nearfirst.contracts.studies import Study
from nearfirst.contracts.training import TrainJob

LOSS_REFRESH_S = 2.0
"""Losses are asked for at most this often."""
LOSSES = ("train_loss", "test_loss")


def watch(
    run_id: Annotated[
        str,
        typer.Argument(metavar="ID", help="An arrangement, training job, evaluation or study: arr_, job_, evl_, std_."),
    ],
    url: Annotated[str | None, typer.Option(help="The server; by default NEARFIRST_URL.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show a run's live progress; exits 0 when it succeeded and 1 when it failed or was cancelled."""
    with Client.from_settings(url) as client:
        run = follow(client, run_id)
    if as_json:
        print_json(run)
    if run.state is not RunState.SUCCEEDED:
        raise typer.Exit(1)


def follow(client: Client, run_id: str) -> Run:
    """Show a run's progress on stderr until it has ended, and how it did; the run as it is then."""
    console = Console(stderr=True)
    with RunDisplay(client, client.run(run_id), console) as display:
        run = client.wait(run_id, on_event=display.show, on_connection=connection_teller(console))
        display.show_end(run)
    console.print(f"{run.id}: {run.state}{describe_end(run)}", highlight=False, markup=False, soft_wrap=True)
    return run


def connection_teller(console: Console) -> Callable[[bool], None]:
    """Says on a console when the server stops answering, and when it does again."""

    def tell(is_there: bool) -> None:
        text = "the server answers again" if is_there else f"the server doesn't answer; trying for {GIVE_UP_S:g} s"
        console.print(text, highlight=False)

    return tell


def describe_end(run: Run) -> str:
    """Why a run ended as it did, or what came out of it, to follow its state on one line."""
    if run.error is not None:
        return describe_error(run.error)
    if run.state is not RunState.SUCCEEDED:
        return ""
    if isinstance(run, TrainJob):
        return f" (receipt head {run.receipt_head})" if run.receipt_head else ""
    if isinstance(run, Evaluation):
        return f" ({_measured(run)})"
    if isinstance(run, Study):
        return f" ({run.spec.num_runs} trainings)"
    return f" ({run.num_rows} rows, {run.digest})"


def _measured(evaluation: Evaluation) -> str:
    noted = f"; {evaluation.note}" if evaluation.note else ""
    return f"{evaluation.num_checkpoints} checkpoints{noted}"


def describe_error(error: Mapping[str, Any] | None) -> str:
    """A run's problem, to follow its state on one line; empty without one."""
    return f" ({error.get('detail') or dict(error)})" if error else ""


def format_eta(eta_s: float | None) -> str:
    """Remaining time as `1:05:09`, or `-:--` while it is unknown.

    >>> format_eta(3909.4)
    '1:05:09'
    >>> format_eta(None)
    '-:--'
    """
    if eta_s is None:
        return "-:--"
    minutes, seconds = divmod(round(eta_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


class RunDisplay:
    """A progress bar of one run with its state, unit, remaining time and last losses. A context manager."""

    def __init__(self, client: Client, run: Run, console: Console) -> None:
        self._client = client
        self._run_id = run.id
        self._losses_at = float("-inf")
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description} [bold]{task.fields[state]}[/]"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}  ETA {task.fields[eta]}  {task.fields[losses]}"),
            console=console,
        )
        self._task = self._bar.add_task(run.id, total=None, state=run.state.value, unit="", eta="-:--", losses="")
        if run.progress is not None:
            self._show_progress(run.progress)

    def __enter__(self) -> "RunDisplay":
        self._bar.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._bar.stop()

    def show(self, event: RunEvent) -> None:
        """Show what an event says."""
        if event.type == "state":
            self._bar.update(self._task, state=event.data.get("state", ""))
        elif event.type == "progress":
            self._show_progress(runs.Progress.model_validate(event.data))
        if is_train_job(self._run_id) and time.monotonic() - self._losses_at > LOSS_REFRESH_S:
            self._show_losses()

    def show_end(self, run: Run) -> None:
        """Show a run as it ended."""
        self._bar.update(self._task, state=run.state.value)
        if run.progress is not None:
            self._show_progress(run.progress)
        if is_train_job(run.id):
            self._show_losses()

    def _show_progress(self, progress: runs.Progress) -> None:
        self._bar.update(
            self._task,
            completed=progress.done,
            total=progress.total,
            unit=progress.unit,
            eta=format_eta(progress.eta_s),
        )

    def _show_losses(self) -> None:
        last = {name: self._client.metrics(self._run_id, name)[-1:] for name in LOSSES}
        text = "  ".join(f"{name} {rows[0].value:.4f} @{rows[0].step}" for name, rows in last.items() if rows)
        self._bar.update(self._task, losses=text)
        self._losses_at = time.monotonic()
