"""The logs that a run leaves behind, and what it tells while it runs."""

from pathlib import Path
from typing import Protocol

from nearfirst.contracts.training import MetricRow
from nearfirst_training.checkpoints import delete_checkpoint, list_checkpoints, remove_broken
from nearfirst_training.events import CheckpointEvent, Emit, Event, KeptEvent, LogEvent, MetricEvent
from nearfirst_training.folder import JsonLog, RunFolder, consumed_line, metric_line, read_log


class Recorder(Protocol):
    """What the loop tells of a run."""

    def tell(self, event: Event) -> None:
        """Tell of something."""

    def log(self, message: str) -> None:
        """Tell something to whoever reads the run's log."""

    def consumed(self, step: int, ids: list[str], head: bytes) -> None:
        """Record what a step consumed."""

    def metrics(self, rows: list[MetricRow]) -> None:
        """Record measurements."""

    def latest(self, name: str) -> float | None:
        """The last value of a metric, over the whole run; None when it was never measured."""

    def sync(self) -> None:
        """Force the logs to the disk."""

    def close(self) -> None:
        """Close the logs."""


class SilentRecorder:
    """Of every rank but the main one: it has nothing to add."""

    def tell(self, event: Event) -> None:
        """Say nothing."""

    def log(self, message: str) -> None:
        """Say nothing."""

    def consumed(self, step: int, ids: list[str], head: bytes) -> None:
        """Write nothing."""

    def metrics(self, rows: list[MetricRow]) -> None:
        """Write nothing."""

    def latest(self, name: str) -> float | None:
        """Know nothing."""
        return None

    def sync(self) -> None:
        """Have nothing to write."""

    def close(self) -> None:
        """Have nothing to close."""


class FileRecorder:
    """Writes the logs of a run into its folder, and tells of what is in them."""

    def __init__(self, folder: RunFolder, emit: Emit, *, resumed_from: int | None) -> None:
        """Open the logs, cut back to what the state at `resumed_from` knows; None: a new run, nothing is kept."""
        self._folder = folder
        self._emit = emit
        self._resumed_from = resumed_from
        remove_broken(folder.checkpoints)
        for checkpoint in list_checkpoints(folder.checkpoints):
            if resumed_from is None or checkpoint.step > resumed_from:
                delete_checkpoint(Path(checkpoint.path))
        folder.path.mkdir(parents=True, exist_ok=True)
        self._consumed = JsonLog(folder.consumed, keep_through=resumed_from)
        self._metrics = JsonLog(folder.metrics, keep_through=resumed_from)
        self._latest: dict[str, float] = {}
        self._tell_again()

    def _tell_again(self) -> None:
        """Tell of what is kept: whoever listened before may have missed the end of it, or heard of more."""
        self._emit(KeptEvent(-1 if self._resumed_from is None else self._resumed_from))
        for line in read_log(self._folder.metrics):
            row = MetricRow.model_validate(line)
            self._latest[row.name] = row.value
            self._emit(MetricEvent(row))
        for checkpoint in list_checkpoints(self._folder.checkpoints):
            self._emit(CheckpointEvent(checkpoint))

    def tell(self, event: Event) -> None:
        """Tell of something that the logs don't have."""
        self._emit(event)

    def log(self, message: str) -> None:
        """Tell something to whoever reads the run's log."""
        self._emit(LogEvent(message))

    def consumed(self, step: int, ids: list[str], head: bytes) -> None:
        """Record what a step consumed."""
        self._consumed.append(consumed_line(step, ids, head))

    def metrics(self, rows: list[MetricRow]) -> None:
        """Record measurements."""
        self._metrics.append(*map(metric_line, rows))
        for row in rows:
            self._latest[row.name] = row.value
            self._emit(MetricEvent(row))

    def latest(self, name: str) -> float | None:
        """The last value of a metric, over the whole run; None when it was never measured."""
        return self._latest.get(name)

    def sync(self) -> None:
        """Force the logs to the disk: a state must never know more than they do."""
        self._consumed.sync()
        self._metrics.sync()

    def close(self) -> None:
        """Close the logs."""
        self._consumed.close()
        self._metrics.close()
