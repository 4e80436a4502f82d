"""A training by several processes of this machine, without a queue: torchrun is started, followed and ended."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nearfirst.contracts.progress import Interrupted, ProgressCallback
from nearfirst.contracts.training import Checkpoint, CheckpointTier, MetricRow
from nearfirst.settings import get_settings
from nearfirst_training.events import (
    CheckpointEvent,
    CheckpointGoneEvent,
    Emit,
    Event,
    KeptEvent,
    LogEvent,
    MetricEvent,
)
from nearfirst_training.interrupt import StopRequest
from nearfirst_training.job import TrainingJob, TrainResult
from nearfirst_training.outcome import outcome_of
from nearfirst_training.process import TrainingProcess

_POLL_S = 0.2
_SAVE_GRACE_S = 300.0
"""How long a job that is told to end may save its state: somebody waits for it, and can press Ctrl-C again."""


def train_in_processes(
    job: TrainingJob, *, emit: Emit, progress: ProgressCallback, stop_request: StopRequest
) -> TrainResult:
    """`loop.train` by processes of their own, which are all gone on return.

    Args:
        job: its paths are absolute.
        emit: told of measurements, checkpoints and remarks as they come.
        progress: told of rows and steps.
        stop_request: looked at all the time; when it came, the processes save their state and end.

    Raises:
        Interrupted: a stop was asked for, or the processes were told to end, or another run is in the folder.
        TrainingFailed: whatever `loop.train` raises, with its code and detail.
        ProcessDied: a process vanished.
    """
    with TemporaryDirectory(prefix="nearfirst-train-") as scratch:
        job_file = Path(scratch) / "launch.json"
        job_file.write_text(job.model_dump_json(indent=2))
        with TrainingProcess(
            [sys.executable, "-m", "nearfirst_training.launch", str(job_file)],
            Path(scratch) / "stderr.log",
            environment=get_settings().as_environment(),
            grace_s=_SAVE_GRACE_S,
        ) as process:
            try:
                while (messages := process.messages(wait_s=_POLL_S)) is not None:
                    stop_request.check()
                    for message in messages:
                        _pass_on(message, emit, progress)
            except Interrupted:
                process.interrupt()
                raise
        return TrainResult.model_validate(outcome_of(process))


def _pass_on(message: dict[str, Any], emit: Emit, progress: ProgressCallback) -> None:
    if message["type"] == "progress":
        progress(message["done"], message["total"], message["unit"])
    elif (event := _event_of(message)) is not None:
        emit(event)


def _event_of(message: dict[str, Any]) -> Event | None:
    """The event that `launch` made this message of; None: of none."""
    match message["type"]:
        case "metric":
            return MetricEvent(MetricRow(step=message["step"], name=message["name"], value=message["value"]))
        case "checkpoint":
            return CheckpointEvent(Checkpoint.model_validate(message["checkpoint"]))
        case "checkpoint_gone":
            return CheckpointGoneEvent(message["step"], CheckpointTier(message["tier"]))
        case "kept":
            return KeptEvent(message["step"])
        case "log":
            return LogEvent(message["message"])
        case _:
            return None
