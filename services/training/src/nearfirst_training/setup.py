"""Everything that the loop works on, made from a job."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nearfirst.contracts.problems import InvalidInput, OrderMismatch
from nearfirst.contracts.progress import ProgressCallback
from nearfirst.contracts.training import Checkpoint, CheckpointTier, LoraSpec, TrainSettings
from nearfirst_training.batches import OrderLoader
from nearfirst_training.checkpointing import Checkpointer
from nearfirst_training.checkpoints import RunIdentity, list_checkpoints
from nearfirst_training.data import TokenizedRows, tokenize_plan, tokenize_rows
from nearfirst_training.events import Emit
from nearfirst_training.folder import RunFolder, read_log
from nearfirst_training.job import TrainingJob
from nearfirst_training.losses import unwrapped
from nearfirst_training.model import load_model
from nearfirst_training.optimization import make_optimizer
from nearfirst_training.plan import Plan, ReceiptChain
from nearfirst_training.prepare import JobData, begin_folder, load_data, run_identity
from nearfirst_training.provenance import spec_digest
from nearfirst_training.recorder import FileRecorder, Recorder, SilentRecorder
from nearfirst_training.state import Position, read_state
from nearfirst_training.strategies import shared, with_adapters
from nearfirst_training.world import World

_RANK_SEED_STRIDE = 1_000_003


@dataclass(frozen=True)
class Run:
    """A run that is ready to make steps."""

    settings: TrainSettings
    folder: RunFolder
    plan: Plan
    world: World
    model: Any
    """A transformers causal language model with fp32 weights, as all ranks share it (`strategies.shared`)."""
    optimizer: torch.optim.Optimizer
    loader: OrderLoader
    test_rows: TokenizedRows | None
    evaluate_every: int
    receipt: ReceiptChain
    recorder: Recorder
    checkpointer: Checkpointer
    resumed_from: int | None
    """Step of the state that the run goes on from; None: it is new."""

    def close(self) -> None:
        """Finish writing, and close the run's logs."""
        try:
            self.checkpointer.close()
        finally:
            self.recorder.close()


def set_up(job: TrainingJob, world: World, *, emit: Emit, progress: ProgressCallback) -> Run:
    """Load data and model, tokenize, and make or take up the run folder. Raises as `loop.train` says."""
    settings = job.settings
    folder = RunFolder(Path(job.out))
    if world.is_main and not job.resume:
        folder.refuse_when_used()
    data = load_data(job, progress)
    bare, tokenizer = _model(settings, world)
    train_rows, slot_N = tokenize_plan(
        data.plan,
        data.train.examples,
        tokenizer,
        settings.max_length,
        template=settings.template,
        progress=progress,
    )
    test_rows = _test_rows(data, tokenizer, settings, progress)
    _refuse_without_labels(train_rows, "training", settings.max_length)

    identity = run_identity(job, data, bare)
    if world.is_main:
        begin_folder(folder, job, data, identity)
    shared_model = shared(bare, settings, world)
    model = unwrapped(shared_model)
    optimizer = make_optimizer(model, settings.optimizer)
    state = _newest_state(folder, world) if job.resume else None
    position = None if state is None else read_state(state, model, optimizer, world)
    receipt = _receipt_chain(folder, data.plan, position)
    resumed_from = None if position is None else position.step
    world.gather(None)  # all ranks have read what the main rank cuts back now
    recorder = FileRecorder(folder, emit, resumed_from=resumed_from) if world.is_main else SilentRecorder()
    digests = RunIdentity(spec_digest(identity), data.plan.arrangement_digest, data.plan.dataset_digest)
    for what, rows in (("training", train_rows), ("test", test_rows)):
        if rows is not None and rows.num_truncated:
            recorder.log(_truncation_remark(what, rows, settings.max_length))
    return Run(
        settings=settings,
        folder=folder,
        plan=data.plan,
        world=world,
        model=shared_model,
        optimizer=optimizer,
        loader=OrderLoader(data.plan, train_rows, slot_N, settings, rank=world.rank, size=world.size),
        test_rows=test_rows,
        evaluate_every=job.evaluate_every,
        receipt=receipt,
        recorder=recorder,
        checkpointer=Checkpointer(
            folder, recorder, settings.checkpoint, digests, world, model=model, tokenizer=tokenizer, optimizer=optimizer
        ),
        resumed_from=resumed_from,
    )


def _model(settings: TrainSettings, world: World) -> tuple[Any, Any]:
    """Model and tokenizer; a model that FSDP will cut up stays in the CPU's memory until then."""
    device = torch.device("cpu") if settings.resolved_strategy == "fsdp" else world.device
    model, tokenizer = load_model(
        settings.model,
        seed=settings.seed,
        max_length=settings.max_length,
        attention=settings.attention,
        device=device,
    )
    if settings.tuning == "lora":
        model = with_adapters(model, settings.lora or LoraSpec())
    if world.size > 1:
        # Dropout must differ between ranks; weights were drawn from the same seed on all of them.
        torch.manual_seed(settings.seed + world.rank * _RANK_SEED_STRIDE)
    return model, tokenizer


def _test_rows(
    data: JobData, tokenizer: Any, settings: TrainSettings, progress: ProgressCallback
) -> TokenizedRows | None:
    if data.test is None:
        return None
    rows = tokenize_rows(
        data.test,
        tokenizer,
        settings.max_length,
        template=settings.template,
        total=len(data.test),
        progress=progress,
    )
    _refuse_without_labels(rows, "test", settings.max_length)
    return rows


def _refuse_without_labels(rows: TokenizedRows, what: str, max_length: int) -> None:
    if not rows.num_scored().any():
        raise InvalidInput(f"max_length {max_length} cuts off the answer of every {what} row: no loss can be taken")


def _truncation_remark(what: str, rows: TokenizedRows, max_length: int) -> str:
    num_empty = int(np.count_nonzero(rows.num_scored() == 0))
    return (
        f"{rows.num_truncated} of {len(rows)} {what} rows are longer than {max_length} tokens and were cut; "
        f"{num_empty} of them have no scored token left"
    )


def _newest_state(folder: RunFolder, world: World) -> Checkpoint | None:
    """The newest complete state, the same on all ranks; None when there is none."""
    states = list_checkpoints(folder.checkpoints, CheckpointTier.STATE) if world.is_main else []
    found: Checkpoint | None = world.gather(states[-1] if states else None)[0]
    return found


def _receipt_chain(folder: RunFolder, plan: Plan, position: Position | None) -> ReceiptChain:
    """The chain from its beginning, or from where the state and the log of consumed ids both are.

    Raises:
        OrderMismatch: the state's head isn't the plan's, or the log doesn't reach it.
    """
    if position is None or position.step == 0:
        return ReceiptChain(plan)
    lines = [line for line in read_log(folder.consumed) if line["step"] <= position.step]
    logged = (len(lines), lines[-1]["head"]) if lines else (0, None)
    if logged != (position.step, position.receipt_head):
        raise OrderMismatch(
            f"step {position.step}: the state's receipt is {position.receipt_head}, {folder.consumed.name} ends after "
            f"{logged[0]} steps with {logged[1]}"
        )
    return ReceiptChain(plan, step=position.step, head=bytes.fromhex(position.receipt_head))
