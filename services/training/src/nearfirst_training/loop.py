"""The training loop: one process, one device, exactly the given order."""

import math
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import torch

from nearfirst.contracts.arrangements import Fidelity
from nearfirst.contracts.problems import InvalidInput, NonFiniteLoss
from nearfirst.contracts.progress import Interrupted, ProgressCallback, ignore_progress
from nearfirst.contracts.training import MetricRow, TrainSettings
from nearfirst_training.checkpoints import list_checkpoints
from nearfirst_training.data import StepBatch
from nearfirst_training.evaluate import evaluate_loss
from nearfirst_training.events import Emit, ignore_event
from nearfirst_training.folder import write_json
from nearfirst_training.job import TrainingJob, TrainResult
from nearfirst_training.losses import precision_context, token_losses
from nearfirst_training.optimization import clip_gradients, learning_rate, set_learning_rate
from nearfirst_training.setup import Run, set_up


def train(job: TrainingJob, *, emit: Emit = ignore_event, progress: ProgressCallback = ignore_progress) -> TrainResult:
    """Train a model on exactly the job's order, and prove it.

    Args:
        job: what to train on what, and where to write (folder.py lists the files).
        emit: told of measurements, checkpoints and remarks as they come.
        progress: told of rows while data are read, and of steps after each step. When it raises `Interrupted` between
            steps, a state checkpoint is saved before that goes on to the caller; any other exception ends the run at
            once.

    Returns:
        What was done; `receipt.json` is in the folder then.

    Raises:
        InvalidInput: the job, its data or its model can't be used (InvalidDataset, InvalidModel), or `out` has a run in
            it and `resume` is off.
        StateConflict: `resume` with another order, model or settings than the run in `out`.
        OrderMismatch: the order file was changed, or a step's batch isn't the plan's; the detail names the step. The
            model has learnt nothing from that step.
        NonFiniteLoss: loss or gradient norm isn't finite; the detail names the step and its ids. No update was made.

    Notes:
        One job gives the same weight bytes on one kind of CPU and number of threads, interrupted or not.
    """
    device = _device(job.settings.gpus)
    with _reproducible(device), closing(set_up(job, device, emit=emit, progress=progress)) as run:
        num_tokens = _make_steps(run, progress)
        receipt = run.receipt.receipt()
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
    settings, plan = run.settings, run.plan
    done = run.resumed_from or 0
    if run.resumed_from is None:
        _measure(run, step=0)
    _report(run, done, progress)
    num_tokens = 0
    for step in range(done + 1, plan.num_steps + 1):
        started_at = time.perf_counter()
        batch = run.loader.batch(step)
        # Before the forward pass: a wrong batch must not touch the weights.
        head = run.receipt.consume(batch.ids)
        rate = learning_rate(step, plan.num_steps, settings.schedule, settings.optimizer.lr)
        set_learning_rate(run.optimizer, rate)
        loss = accumulate_gradients(run.model, batch, settings, run.device)
        if loss is None:
            run.recorder.log(f"step {step}: none of its rows has a scored token; no update ({', '.join(batch.ids)})")
            values = {"lr": rate}
        else:
            norm = clip_gradients(run.model, settings.optimizer.max_grad_norm)
            values = {"train_loss": loss.item(), "grad_norm": norm.item(), "lr": rate}
            _refuse_non_finite(step, batch.ids, values)
            run.optimizer.step()
            values["tokens_per_s"] = batch.num_tokens / (time.perf_counter() - started_at)
        run.optimizer.zero_grad(set_to_none=True)
        num_tokens += batch.num_tokens
        run.recorder.consumed(step, batch.ids, head)
        run.recorder.metrics([MetricRow(step=step, name=name, value=value) for name, value in values.items()])
        is_last = step == plan.num_steps
        if is_last or step % run.evaluate_every == 0:
            _measure(run, step)
        run.checkpointer.after_step(step, head.hex(), is_last=is_last)
        _report(run, step, progress)
    return num_tokens


def accumulate_gradients(
    model: Any, batch: StepBatch, settings: TrainSettings, device: torch.device
) -> torch.Tensor | None:
    """Forward and backward over a step's micro-batches.

    The step's loss is sum of token losses / scored tokens of the *whole* step, so that micro-batches change rounding
    only. `paper`: the mean of the micro-batches' means, which weighs a token by how few its micro-batch has.

    Returns:
        The loss, a detached fp32 scalar on `device`; gradients are in the weights. None, and no gradient, when the step
        has no scored token.
    """
    micro_batches = batch.micro_batches(settings.micro_batch_size, device)
    num_scored = sum(len(micro_batch.targets) for micro_batch in micro_batches)
    if num_scored == 0:
        return None
    step_loss = torch.zeros((), device=device)
    for micro_batch in micro_batches:
        if len(micro_batch.targets) == 0:
            continue
        with precision_context(settings.precision, device):
            losses_S = token_losses(model, micro_batch)
        if settings.fidelity is Fidelity.PAPER:
            loss = losses_S.mean() / len(micro_batches)
        else:
            loss = losses_S.sum() / num_scored
        loss.backward()  # type: ignore[no-untyped-call]
        step_loss += loss.detach()
    return step_loss


def _refuse_non_finite(step: int, ids: list[str], values: dict[str, float]) -> None:
    """Stop before the update when loss or gradient norm is infinite or not a number."""
    wrong = [f"{name} is {value}" for name, value in values.items() if not math.isfinite(value)]
    if wrong:
        raise NonFiniteLoss(f"step {step}: {' and '.join(wrong)}; no update was made; its ids are {', '.join(ids)}")


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
        device=run.device,
    )
    run.recorder.metrics(measured.metric_rows())


def _report(run: Run, step: int, progress: ProgressCallback) -> None:
    """Tell how far the run is; save a state when that ends it."""
    try:
        progress(step, run.plan.num_steps, "steps")
    except Interrupted:
        run.checkpointer.save_state(step, run.receipt.head.hex())
        raise


def _device(gpus: int) -> torch.device:
    """The device to train on.

    Raises:
        InvalidInput: a GPU is asked for and torch sees none.
    """
    if gpus == 0:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise InvalidInput(f"gpus: {gpus} asked for, torch sees none; 0 trains on the CPU")
    return torch.device("cuda", 0)


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
