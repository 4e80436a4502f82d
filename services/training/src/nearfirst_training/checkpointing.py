"""When checkpoints are taken, and the thread that writes them while training goes on."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch

from nearfirst.contracts.problems import CheckpointNotWritten
from nearfirst.contracts.training import Checkpoint, CheckpointSpec, CheckpointTier
from nearfirst_training.checkpoints import RunIdentity, read_checkpoint, retain, write_checkpoint
from nearfirst_training.events import CheckpointEvent, CheckpointGoneEvent, Event
from nearfirst_training.folder import RunFolder
from nearfirst_training.recorder import Recorder
from nearfirst_training.state import Position, StateSnapshot, WeightsSnapshot, take_state, take_weights
from nearfirst_training.world import World


class Checkpointer:
    """Takes checkpoints when they are due. The loop waits for the copy into memory; files are written behind it.

    One writing goes on at a time: the next copy waits for it, so that there are never two copies. What the thread has
    to tell is told by the loop's own thread.
    """

    def __init__(
        self,
        folder: RunFolder,
        recorder: Recorder,
        spec: CheckpointSpec,
        identity: RunIdentity,
        world: World,
        *,
        model: Any,
        tokenizer: Any,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        self._root = folder.checkpoints
        self._recorder = recorder
        self._spec = spec
        self._identity = identity
        self._world = world
        self._model = model
        self._tokenizer = tokenizer
        self._optimizer = optimizer
        self._thread = ThreadPoolExecutor(1, "nearfirst-checkpoints")
        self._writing: Future[list[Event]] | None = None
        self.blocked_s = 0.0
        """How long the loop has waited for checkpoints so far: for copies, and for the disk where it was too slow."""

    def is_due(self, step: int) -> bool:
        """Whether anything is to be taken after a step, but for the last."""
        return _is_due(step, self._spec.weights_every) or _is_due(step, self._spec.state_every)

    def before_first_step(self, head: str) -> None:
        """Take the weights of step 0, when they are wanted."""
        if self._spec.initial_weights:
            self._take(0, head, weights=True, state=False)

    def after_step(self, step: int, head: str, *, is_last: bool) -> None:
        """Take what is due after a step.

        Raises:
            CheckpointNotWritten: this one's copy had to wait for an earlier checkpoint, which couldn't be written.
        """
        if self._writing is not None and self._writing.done():
            self.wait()
        weights = is_last or _is_due(step, self._spec.weights_every)
        state = is_last or _is_due(step, self._spec.state_every)
        if weights or state:
            self._take(step, head, weights=weights, state=state)
        if is_last:
            self.wait()

    def save_state(self, step: int, head: str) -> None:
        """Write a state checkpoint before returning, unless the step has one.

        Raises:
            CheckpointNotWritten: it couldn't be written.
        """
        self.wait()
        if read_checkpoint(self._root / f"step-{step:06d}" / CheckpointTier.STATE) is None:
            self._take(step, head, weights=False, state=True)
            self.wait()

    def wait(self) -> None:
        """Wait for the checkpoint that is being written, and tell of it.

        Raises:
            CheckpointNotWritten: it couldn't be.
        """
        if self._writing is None:
            return
        started_s = time.perf_counter()
        writing, self._writing = self._writing, None
        for event in writing.result():
            self._recorder.tell(event)
        self.blocked_s += time.perf_counter() - started_s

    def close(self) -> None:
        """Finish what is being written: a run that fails keeps its last checkpoint. A second failure is only logged."""
        try:
            self.wait()
        except CheckpointNotWritten as error:
            self._recorder.log(error.detail)
        finally:
            self._thread.shutdown()

    def _take(self, step: int, head: str, *, weights: bool, state: bool) -> None:
        self.wait()
        started_s = time.perf_counter()
        self._recorder.sync()  # a state must never know more than the logs do
        taken: dict[CheckpointTier, WeightsSnapshot | StateSnapshot] = {}
        if weights:  # first, so that a state is never without them
            taken[CheckpointTier.WEIGHTS] = take_weights(
                self._model, self._tokenizer, self._spec.weights_dtype, self._world
            )
        if state:
            position = Position(step, head, self._identity.arrangement_digest, self._identity.spec_digest)
            taken[CheckpointTier.STATE] = take_state(self._model, self._optimizer, position, self._world)
        self._writing = self._thread.submit(self._write, step, head, taken)
        self.blocked_s += time.perf_counter() - started_s

    def _write(self, step: int, head: str, taken: dict[CheckpointTier, WeightsSnapshot | StateSnapshot]) -> list[Event]:
        """In the thread: what was taken, then what is too old."""
        told: list[Event] = []
        keep = {CheckpointTier.WEIGHTS: self._spec.keep_weights, CheckpointTier.STATE: self._spec.keep_state}
        for tier, snapshot in taken.items():
            told.append(CheckpointEvent(self._written(tier, step, head, snapshot.write)))
            if self._world.is_main:
                told += [CheckpointGoneEvent(old, tier) for old in retain(self._root, tier, keep[tier])]
        return told

    def _written(self, tier: CheckpointTier, step: int, head: str, fill: Callable[..., None]) -> Checkpoint:
        return write_checkpoint(
            self._root, tier, step, receipt_head=head, identity=self._identity, fill=fill, peers=self._world
        )


def _is_due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0
