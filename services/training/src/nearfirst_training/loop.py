"""The training loop: any number of ranks, exactly the given order."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import torch

from nearfirst.contracts.arrangements import Fidelity
from nearfirst.contracts.progress import Interrupted, ProgressCallback, ignore_progress
from nearfirst.contracts.training import TrainSettings
from nearfirst_training.batches import MicroBatch, StepBatch, in_plan_order, prefetched
from nearfirst_training.checkpoints import list_checkpoints
from nearfirst_training.evaluate import evaluate_loss
from nearfirst_training.events import Emit, ignore_event
from nearfirst_training.folder import RunFolder, explained_disk_errors, write_json
from nearfirst_training.job import TrainingJob, TrainResult
from nearfirst_training.losses import precision_context, token_losses, unwrapped
from nearfirst_training.memory import explained_memory_errors
from nearfirst_training.optimization import clip_gradients, learning_rate, set_learning_rate
from nearfirst_training.setup import Run, set_up
from nearfirst_training.step_log import StepLog
from nearfirst_training.strategies import gradient_exchange
from nearfirst_training.world import joined


def train(job: TrainingJob, *, emit: Emit = ignore_event, progress: ProgressCallback = ignore_progress) -> TrainResult:
    """Train a model on exactly the job's order, and prove it. With several processes, all of them call it.

    Args:
        job: what to train on what, and where to write (folder.py lists the files).
        emit: told of measurements, checkpoints and remarks as they come; by the main rank.
        progress: told of rows while data are read, and of steps after each step. When it raises `Interrupted` between
            steps, on any rank, all of them save a state checkpoint before that goes on to their callers; any other
            exception ends the run at once.

    Returns:
        What was done; `receipt.json` is in the folder then.

    Raises:
        InvalidInput: the job, its data or its model can't be used (InvalidDataset, InvalidModel), or `out` has a run in
            it and `resume` is off.
        StateConflict: `resume` with another order, model, settings or number of processes than the run in `out`.
        OrderMismatch: the order file was changed, or a step's batch isn't the plan's; the detail names the step. The
            model has learnt nothing from that step.
        NonFiniteLoss: loss or gradient norm isn't finite; the detail names the step and its ids. The model has learnt
            nothing from that step.
        OutOfMemory: the detail names the step and its longest forward pass.
        NotWritten: the disk is full, say (CheckpointNotWritten: at a checkpoint); earlier checkpoints are as they were.

    Notes:
        One job gives the same weight bytes on one kind of CPU and number of threads, interrupted or not.
    """
    with (
        explained_disk_errors(RunFolder(Path(job.out))),
        joined(job) as world,
        _reproducible(world.device),
        closing(set_up(job, world, emit=emit, progress=progress)) as run,
    ):
        num_tokens = _make_steps(run, progress)
        receipt = run.receipt.receipt()
        if world.is_main:
            write_json(run.folder.receipt, receipt.model_dump(mode="json"))
        return TrainResult(
            steps=receipt.steps,
            num_tokens=num_tokens,
            resumed_from=run.resumed_from,
            train_loss=run.recorder.latest("train_loss"),
            test_loss=run.recorder.latest("test_loss"),
            receipt=receipt,
            checkpoints=list_checkpoints(run.folder.checkpoints),
        )


def _make_steps(run: Run, progress: ProgressCallback) -> int:
    """Make every step that is left; returns the number of tokens trained on."""
    settings, plan, world = run.settings, run.plan, run.world
    done = run.resumed_from or 0
    if run.resumed_from is None:
        _measure(run, step=0)
        run.checkpointer.before_first_step(run.receipt.head.hex())
    steps = StepLog(run)
    is_stopping = _report(run, done, progress)
    num_tokens = 0
    for step, batch, micro_batches in prefetched(run.loader, range(done + 1, plan.num_steps + 1), world.device):
        # One exchange a step: what the ranks are about to consume, and whether one of them was told to stop.
        said = world.gather((batch.ids, is_stopping))
        if any(stopping for _, stopping in said):
            _save_and_stop(run, step - 1)
        # Before the forward pass: a wrong batch must not touch the weights.
        ids = in_plan_order([each for each, _ in said])
        head = run.receipt.consume(ids)
        rate = learning_rate(step, plan.num_steps, settings.schedule, settings.optimizer.lr)
        set_learning_rate(run.optimizer, rate)
        with explained_memory_errors(step, micro_batches):
            loss = accumulate_gradients(run.model, batch, micro_batches, settings, world.device)
            if loss is None:
                run.recorder.log(f"step {step}: none of its rows has a scored token; no update ({', '.join(ids)})")
                steps.without_update(step, rate, batch.num_tokens)
            else:
                norm = clip_gradients(unwrapped(run.model), settings.optimizer.max_grad_norm)
                steps.update(step, ids, rate, batch.num_tokens, loss, norm)
        run.optimizer.zero_grad(set_to_none=True)
        num_tokens += batch.num_tokens
        is_last = step == plan.num_steps
        if is_last or step % settings.log_every == 0 or run.checkpointer.is_due(step):
            steps.look()
        run.recorder.consumed(step, ids, head)
        if is_last or step % run.evaluate_every == 0:
            _measure(run, step)
        run.checkpointer.after_step(step, head.hex(), is_last=is_last)
        is_stopping = _report(run, step, progress)
    if any(world.gather(is_stopping)):
        _save_and_stop(run, plan.num_steps)
    return num_tokens


def accumulate_gradients(
    model: Any, batch: StepBatch, micro_batches: list[MicroBatch], settings: TrainSettings, device: torch.device
) -> torch.Tensor | None:
    """Forward and backward over this rank's part of a step.

    The step's loss is sum of token losses / scored tokens of the *whole* step, of all ranks, so that micro-batches and
    ranks change rounding only. `paper`: the mean of the micro-batches' means, which weighs a token by how few its
    micro-batch has.

    Returns:
        This rank's part of the loss, a detached fp32 scalar on `device`; gradients, summed over the ranks, are in the
        weights. None, and no gradient, when the step has no scored token.
    """
    if batch.num_scored == 0:
        return None
    step_loss = torch.zeros((), device=device)
    for number, each in enumerate(micro_batches, start=1):
        micro_batch = each.to(device)
        with gradient_exchange(model, is_last=number == len(micro_batches)):
            with precision_context(settings.precision, device):
                losses_S = token_losses(model, micro_batch)
            if settings.fidelity is Fidelity.PAPER and len(micro_batch.targets):
                loss = losses_S.mean() / batch.num_groups
            else:
                loss = losses_S.sum() / batch.num_scored
            loss.backward()  # type: ignore[no-untyped-call]
        step_loss += loss.detach()
    return step_loss


def _save_and_stop(run: Run, step: int) -> None:
    """Save a state, and end the run for now."""
    run.checkpointer.save_state(step, run.receipt.head.hex())
    raise Interrupted(f"told to end after step {step}")


def _measure(run: Run, step: int) -> None:
    """Measure and record the test loss after `step` steps."""
    if run.test_rows is None:
        return
    measured = evaluate_loss(
        run.model,
        run.test_rows,
        step=step,
        fidelity=run.settings.fidelity,
        precision=run.settings.precision,
        world=run.world,
    )
    run.recorder.metrics(measured.metric_rows())


def _report(run: Run, step: int, progress: ProgressCallback) -> bool:
    """Tell how far the run is; returns whether this rank was told to stop."""
    try:
        progress(step, run.plan.num_steps, "steps")
    except Interrupted:
        return True
    return False


@contextmanager
def _reproducible(device: torch.device) -> Iterator[None]:
    """Deterministic kernels (on a GPU: where there are any), and the caller's random state given back at the end."""
    was_on = torch.are_deterministic_algorithms_enabled()
    warned_only = torch.is_deterministic_algorithms_warn_only_enabled()
    deterministic: Any = torch.utils.deterministic
    filled = deterministic.fill_uninitialized_memory
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            torch.use_deterministic_algorithms(True, warn_only=device.type == "cuda")
            # Filling fresh memory with NaN costs time and finds only reads of memory that nothing wrote.
            deterministic.fill_uninitialized_memory = False
            yield
        finally:
            torch.use_deterministic_algorithms(was_on, warn_only=warned_only)
            deterministic.fill_uninitialized_memory = filled
