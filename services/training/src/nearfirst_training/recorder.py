"""What a run leaves behind while it runs: its logs and its checkpoints."""

from pathlib import Path
from typing import Any

import torch

from nearfirst.contracts.training import Checkpoint, CheckpointSpec, CheckpointTier, MetricRow
from nearfirst_training.checkpoints import (
    RunIdentity,
    delete_checkpoint,
    list_checkpoints,
    read_checkpoint,
    retain_states,
    write_checkpoint,
)
from nearfirst_training.events import CheckpointEvent, Emit, KeptEvent, LogEvent, MetricEvent
from nearfirst_training.folder import JsonLog, RunFolder, consumed_line, metric_line, read_log
from nearfirst_training.state import Position, write_state, write_weights


class Recorder:
    """Writes the logs and checkpoints of a run, and tells of them."""

    def __init__(self, folder: RunFolder, emit: Emit, *, resumed_from: int | None) -> None:
        """Open the logs, cut back to what the state at `resumed_from` knows; None: a new run, nothing is kept."""
        self._folder = folder
        self._emit = emit
        self._resumed_from = resumed_from
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

    def checkpoint_written(self, checkpoint: Checkpoint) -> None:
        """Tell of a complete checkpoint."""
        self._emit(CheckpointEvent(checkpoint))

    def sync(self) -> None:
        """Force the logs to the disk: a state must never know more than they do."""
        self._consumed.sync()
        self._metrics.sync()

    def close(self) -> None:
        """Close the logs."""
        self._consumed.close()
        self._metrics.close()


class Checkpointer:
    """Writes checkpoints when they are due."""

    def __init__(
        self,
        folder: RunFolder,
        recorder: Recorder,
        spec: CheckpointSpec,
        identity: RunIdentity,
        *,
        model: Any,
        tokenizer: Any,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        self._root = folder.checkpoints
        self._recorder = recorder
        self._spec = spec
        self._identity = identity
        self._model = model
        self._tokenizer = tokenizer
        self._optimizer = optimizer

    def after_step(self, step: int, head: str, *, is_last: bool) -> None:
        """Write what is due after a step: weights first, so that a state is never without them."""
        if is_last or _is_due(step, self._spec.weights_every):
            self._write(CheckpointTier.WEIGHTS, step, head)
        if is_last or _is_due(step, self._spec.state_every):
            self.save_state(step, head)

    def save_state(self, step: int, head: str) -> None:
        """Write a state checkpoint now, unless the step has one; delete those that are too old."""
        if read_checkpoint(self._root / f"step-{step:06d}" / CheckpointTier.STATE) is None:
            self._recorder.sync()
            self._write(CheckpointTier.STATE, step, head)
            retain_states(self._root, self._spec.keep_state)

    def _write(self, tier: CheckpointTier, step: int, head: str) -> None:
        def fill(folder: Path) -> None:
            if tier is CheckpointTier.WEIGHTS:
                write_weights(folder, self._model, self._tokenizer)
            else:
                position = Position(step, head, self._identity.arrangement_digest, self._identity.spec_digest)
                write_state(folder, position, self._model, self._optimizer)

        self._recorder.checkpoint_written(
            write_checkpoint(self._root, tier, step, receipt_head=head, identity=self._identity, fill=fill)
        )


def _is_due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0
