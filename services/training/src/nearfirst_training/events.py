"""What training tells its caller while it runs."""

from collections.abc import Callable
from dataclasses import dataclass

from nearfirst.contracts.training import Checkpoint, MetricRow


@dataclass(frozen=True, slots=True)
class MetricEvent:
    """A measurement was made."""

    row: MetricRow


@dataclass(frozen=True, slots=True)
class CheckpointEvent:
    """A checkpoint is complete on disk."""

    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class LogEvent:
    """A line for whoever reads the run's log."""

    message: str


Event = MetricEvent | CheckpointEvent | LogEvent
Emit = Callable[[Event], None]


def ignore_event(event: Event) -> None:
    """Do nothing: for callers that read the files instead."""
