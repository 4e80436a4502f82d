"""Live progress of many runs at once, from the event stream."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

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

from nearfirst.client.api import Client
from nearfirst.client.events import suppressed_while_away
from nearfirst.client.watch import describe_error
from nearfirst.contracts import runs
from nearfirst.contracts.problems import NearfirstError
from nearfirst.contracts.runs import TERMINAL_STATES, RunEvent, RunState

ItemT = TypeVar("ItemT")

STEPS = "steps"
"""The unit of a training job's progress once it trains."""
LOOK_AROUND_S = 5.0
"""After this long without an event the runs themselves are asked."""


class RunFailed(NearfirstError):
    """A run of the study did not succeed."""

    code = "run_failed"
    title = "Run failed"


@contextmanager
def progress_bars(console: Console) -> Iterator[Progress]:
    """Bars with counts, unit, elapsed and remaining time."""
    with Progress(
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        console=console,
    ) as bars:
        yield bars


def track(bars: Progress, items: Sequence[ItemT], description: str) -> Iterator[ItemT]:
    """The items, with a bar that says how many have been taken."""
    task = bars.add_task(description, total=len(items), note="")
    for item in items:
        yield item
        bars.advance(task)


class Follower:
    """Follows the runs of a study until all have ended.

    Args:
        client: of the server that has them.
        labels: what to call each run whose progress is shown, by its id.
        jobs: the training jobs and how many steps each has; the overall bar counts these.
        bars: where the bars go.
    """

    def __init__(self, client: Client, labels: Mapping[str, str], jobs: Mapping[str, int], bars: Progress) -> None:
        self._client = client
        self._labels = labels
        self._jobs = jobs
        self._bars = bars
        self._steps_done = dict.fromkeys(jobs, 0)
        self._unfinished = set(jobs)
        self._tasks: dict[str, TaskID] = {}
        self._overall = bars.add_task("training runs", total=sum(jobs.values()), note="")
        self._show_overall()

    def follow(self, check_server: Callable[[], None]) -> None:
        """Return when every training job has succeeded.

        Args:
            check_server: called after each `LOOK_AROUND_S` without an event; raises when the server is gone.

        Raises:
            RunFailed: a run failed or was cancelled; the detail names it and the reason.
        """
        for event in self._client.events_or_silence(silence_s=LOOK_AROUND_S):
            if event is None:
                check_server()
                with suppressed_while_away():
                    self._ask_jobs()
            elif event.run_id in self._labels:
                self._show(event)
            if not self._unfinished:
                return

    def _show(self, event: RunEvent) -> None:
        if event.type == "progress":
            self._show_progress(event.run_id, runs.Progress.model_validate(event.data))
        elif event.type == "state" and RunState(event.data["state"]) in TERMINAL_STATES:
            self._end(event.run_id, RunState(event.data["state"]), describe_error(event.data.get("error")))

    def _show_progress(self, run_id: str, progress: runs.Progress) -> None:
        task = self._tasks.get(run_id)
        if task is None:
            task = self._tasks[run_id] = self._bars.add_task(f"  {self._labels[run_id]}", total=None, note="")
        self._bars.update(task, completed=progress.done, total=progress.total, note=progress.unit)
        if run_id in self._jobs and progress.unit == STEPS:  # before its first step a job counts the rows it reads
            self._steps_done[run_id] = progress.done
            self._show_overall()

    def _ask_jobs(self) -> None:
        """Learn of ends whose events were missed."""
        for job_id in sorted(self._unfinished):
            job = self._client.train_job(job_id)
            if job.state in TERMINAL_STATES:
                self._end(job_id, job.state, describe_error(job.error))

    def _end(self, run_id: str, state: RunState, reason: str) -> None:
        if state is not RunState.SUCCEEDED:
            raise RunFailed(f"{self._labels[run_id]} ({run_id}) {state.value}{reason}")
        task = self._tasks.pop(run_id, None)
        if task is not None:
            self._bars.remove_task(task)
        if not self._bars.console.is_terminal:
            self._bars.console.print(f"{self._labels[run_id]}: {state.value}", highlight=False)
        if run_id in self._unfinished:
            self._unfinished.remove(run_id)
            self._steps_done[run_id] = self._jobs[run_id]
            self._show_overall()

    def _show_overall(self) -> None:
        ended = len(self._jobs) - len(self._unfinished)
        note = f"steps, {ended}/{len(self._jobs)} runs"
        self._bars.update(self._overall, completed=sum(self._steps_done.values()), note=note)
