"""The training worker with a count in the place of training: its checkpoints are what `scripted_units` measures.

A training makes `max_steps` steps of SCRIPT_STEP_S seconds, writes weights every `checkpoint.weights_every` steps, and
a state when it is interrupted, from which the next attempt goes on. The weights of step t with seed s are 1 - t/100 +
s/10, and 5 more on an order of fewer than FEW_ROWS rows.
"""

import os
import time
from pathlib import Path

from nearfirst.checkpoint_folder import open_checkpoint
from nearfirst.contracts.progress import Interrupted
from nearfirst.contracts.receipts import Receipt
from nearfirst.contracts.runs import RunKind
from nearfirst.contracts.training import Checkpoint, CheckpointTier, TrainSpec
from nearfirst.queue.context import RunContext, RunResult
from nearfirst.queue.process import make_training_app
from nearfirst.registry import runs
from nearfirst.settings import get_settings

STEP_S = float(os.environ.get("SCRIPT_STEP_S", "0.01"))
FEW_ROWS = 20


def train(context: RunContext) -> RunResult:
    spec = TrainSpec.model_validate(context.spec)
    assert spec.max_steps is not None
    assert spec.arrangement is not None
    order = context.read(lambda session: runs.get(session, str(spec.arrangement), RunKind.ARRANGEMENT)).result
    assert order is not None
    handicap = 5.0 if order["num_rows"] < FEW_ROWS else 0.0
    out = context.worker.settings.runs_dir / context.run_id
    out.mkdir(parents=True, exist_ok=True)
    state = out / "state"
    step = int(state.read_text()) if state.exists() else 0
    context.log([f"from step {step}"])
    try:
        while step < spec.max_steps:
            context.progress(step, spec.max_steps, "steps")
            time.sleep(STEP_S)
            step += 1
            if step % (spec.checkpoint.weights_every or spec.max_steps) == 0:
                context.checkpoint(_weights(out, step, 1 - step / 100 + spec.seed / 10 + handicap), is_progress=True)
    except Interrupted:
        state.write_text(str(step))
        raise
    receipt = Receipt(
        arrangement_digest=order["digest"],
        dataset_digest="sha256:00",
        global_batch_size=spec.global_batch_size,
        num_rows=step,
        steps=step,
        head="00",
        verified=True,
    )
    return RunResult({"num_tokens": 100 * step, "receipt": receipt.model_dump(mode="json")})


def _weights(out: Path, step: int, number: float) -> Checkpoint:
    folder = out / "checkpoints" / f"step-{step:06d}" / "weights"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / "number").write_text(str(number))
    digest = open_checkpoint(folder).digest
    return Checkpoint(
        step=step, tier=CheckpointTier.WEIGHTS, path=str(folder), size_bytes=1, digest=digest, receipt_head="00"
    )


app = make_training_app(get_settings(), train)
