"""What training tells its caller while it runs."""

from collections.abc import Callable
from dataclasses import dataclass

from nearfirst.contracts.training import Checkpoint, CheckpointTier, MetricRow


@dataclass(frozen=True, slots=True)
class MetricEvent:
    """A measurement was made."""

    row: MetricRow


@dataclass(frozen=True, slots=True)
class CheckpointEvent:
    """A checkpoint is complete on disk."""

    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class CheckpointGoneEvent:
    """A checkpoint was deleted: newer ones have taken its place."""

    step: int
    tier: CheckpointTier


@dataclass(frozen=True, slots=True)
class LogEvent:
    """A line for whoever reads the run's log."""

    message: str


@dataclass(frozen=True, slots=True)
class KeptEvent:
    """The run begins: of an earlier attempt, what belongs to steps up to this one is kept, and will be told again."""

    step: int
    """-1: nothing is kept; the run begins anew, with its measurement of step 0."""


Event = MetricEvent | CheckpointEvent | CheckpointGoneEvent | LogEvent | KeptEvent
Emit = Callable[[Event], None]


def ignore_event(event: Event) -> None:
    """Do nothing: for callers that read the files instead."""
