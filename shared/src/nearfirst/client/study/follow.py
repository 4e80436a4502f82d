"""A study's live progress: all its runs at once, from the event stream."""

from collections.abc import Callable

from rich.progress import Progress, TaskID

from nearfirst.client.api import Client
from nearfirst.client.events import suppressed_while_away
from nearfirst.client.shown import ShownStudy
from nearfirst.client.watch import connection_teller, describe_error
from nearfirst.contracts import runs
from nearfirst.contracts.runs import TERMINAL_STATES, RunEvent, RunState

LOOK_AROUND_S = 5.0
"""After this long without an event the study itself is asked."""
_MAX_BARS = 12
"""Runs that are shown at a time; more would not fit the screen."""


class StudyFollower:
    """Follows a study to its end.

    Args:
        client: of the server that has it.
        study_id: the study.
        bars: where the bars go.
    """

    def __init__(self, client: Client, study_id: str, bars: Progress) -> None:
        self._client = client
        self._study_id = study_id
        self._bars = bars
        self._labels: dict[str, str] = {}
        for node in client.study_nodes(study_id):
            self._labels.setdefault(node.run, f"{node.kind} {node.arrangement} seed {node.seed}")
        self._tasks: dict[str, TaskID] = {}
        self._overall = bars.add_task("study", total=None, note="runs")
        self._show_study(client.study(study_id))

    def follow(self, check_server: Callable[[], None]) -> ShownStudy:
        """Return the study as it ended.

        Args:
            check_server: called after each `LOOK_AROUND_S` without an event; raises when the server is gone.
        """
        study = self._client.study(self._study_id)
        if study.state in TERMINAL_STATES:
            return study
        tell = connection_teller(self._bars.console)
        for event in self._client.events_or_silence(silence_s=LOOK_AROUND_S, on_connection=tell):
            if event is None:
                check_server()
            elif event.run_id in self._labels:
                self._show(event)
            if event is None or event.run_id == self._study_id:
                with suppressed_while_away():
                    study = self._client.study(self._study_id)
                self._show_study(study)
                if study.state in TERMINAL_STATES:
                    return study
        raise AssertionError("events never end by themselves")

    def _show_study(self, study: ShownStudy) -> None:
        if study.progress is not None:
            self._bars.update(self._overall, completed=study.progress.done, total=study.progress.total)

    def _show(self, event: RunEvent) -> None:
        if event.type == "progress":
            self._show_progress(event.run_id, runs.Progress.model_validate(event.data))
        elif event.type == "state" and RunState(event.data["state"]) in TERMINAL_STATES:
            task = self._tasks.pop(event.run_id, None)
            if task is not None:
                self._bars.remove_task(task)
            if not self._bars.console.is_terminal:
                reason = describe_error(event.data.get("error"))
                line = f"{self._labels[event.run_id]}: {event.data['state']}{reason}"
                self._bars.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _show_progress(self, run_id: str, progress: runs.Progress) -> None:
        if run_id not in self._tasks and len(self._tasks) < _MAX_BARS:
            self._tasks[run_id] = self._bars.add_task(f"  {self._labels[run_id]}", total=None, note="")
        if run_id in self._tasks:
            self._bars.update(self._tasks[run_id], completed=progress.done, total=progress.total, note=progress.unit)
