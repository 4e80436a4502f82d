"""Ranks of one training run as processes of a test: real collectives over gloo, without torchrun's start-up.

A server process imports torch and transformers once, and ranks are forked from it.
"""

import multiprocessing
import os
import socket
from collections.abc import Callable
from dataclasses import replace

from nearfirst.contracts.problems import NearfirstError
from nearfirst.contracts.progress import Interrupted
from nearfirst_training.batches import OrderLoader, StepBatch
from nearfirst_training.job import TrainingJob, TrainResult
from nearfirst_training.loop import train

_TIMEOUT_S = 120
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.support.ranks", "peft", "transformers.models.llama.modeling_llama"])

Outcome = tuple[TrainResult | None, Exception | None]


def outcomes(job: TrainingJob, trouble: str = "") -> list[Outcome]:
    """What each rank returned or raised, by rank; `trouble` names what goes wrong on rank 1 (`TROUBLES`)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    answers = _context.Queue()
    size = job.settings.num_processes
    ranks = [_context.Process(target=_be_rank, args=(job, rank, port, trouble, answers)) for rank in range(size)]
    for each in ranks:
        each.start()
    try:
        found = sorted((answers.get(timeout=_TIMEOUT_S) for _ in ranks), key=lambda answer: answer[0])
    finally:
        for each in ranks:
            each.join(10)
            each.kill()
        answers.close()
    return [(result, error) for _, result, error in found]


def run(job: TrainingJob) -> TrainResult:
    """The main rank's result; all ranks must have succeeded."""
    if not job.settings.needs_torchrun:
        return train(job)
    found = outcomes(job)
    assert [error for _, error in found] == [None] * job.settings.num_processes
    result = found[0][0]
    assert result is not None
    return result


def _be_rank(job: TrainingJob, rank: int, port: int, trouble: str, answers: "multiprocessing.Queue[object]") -> None:
    """What torchrun would set, then the loop."""
    import torch

    torch.set_num_threads(1)
    where = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": job.settings.num_processes, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in where.items()} | {"MASTER_ADDR": "127.0.0.1"})
    if trouble and rank == 1:
        TROUBLES[trouble]()
    stops = trouble == "told to stop" and rank == 1

    def progress(done: int, total: int | None, unit: str) -> None:
        if stops and unit == "steps" and done == 2:
            raise Interrupted

    try:
        answers.put((rank, train(job, progress=progress), None))
    except (NearfirstError, Interrupted) as error:
        answers.put((rank, None, error))


def _spoil_step_three(change: Callable[[StepBatch], StepBatch]) -> Callable[[], None]:
    def spoil() -> None:
        honest = OrderLoader.batch

        def batch(self: OrderLoader, step: int) -> StepBatch:
            return change(honest(self, step)) if step == 3 else honest(self, step)

        OrderLoader.batch = batch  # type: ignore[method-assign]

    return spoil


def _shuffled(batch: StepBatch) -> StepBatch:
    return replace(batch, ids=batch.ids[::-1], rows=batch.rows[::-1])


def _without_first(batch: StepBatch) -> StepBatch:
    return replace(batch, ids=batch.ids[1:], rows=batch.rows[1:], groups=[list(range(len(batch.ids) - 1))])


def _first_twice(batch: StepBatch) -> StepBatch:
    return replace(batch, ids=[batch.ids[0], *batch.ids[:-1]], rows=[batch.rows[0], *batch.rows[:-1]])


def _fill_the_disk() -> None:
    """No state of step 2 can be written."""
    import safetensors.torch

    honest = safetensors.torch.save_file

    def save_file(tensors: object, path: object, *rest: object) -> None:
        if "step-000002" in str(path):
            raise OSError(28, "No space left on device")
        honest(tensors, path, *rest)  # type: ignore[arg-type]

    safetensors.torch.save_file = save_file  # type: ignore[assignment]


TROUBLES: dict[str, Callable[[], None]] = {
    "shuffle": _spoil_step_three(_shuffled),
    "drop": _spoil_step_three(_without_first),
    "repeat": _spoil_step_three(_first_twice),
    "full disk": _fill_the_disk,
    "told to stop": lambda: None,
}
