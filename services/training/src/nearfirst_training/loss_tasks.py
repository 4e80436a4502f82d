"""The loss worker's task: one checkpoint's loss on a test set, of which the artifact has `losses.jsonl`."""

import math
import tempfile
from collections.abc import Sequence
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from nearfirst.checkpoint_folder import CheckpointFolder, open_checkpoint
from nearfirst.contracts.evaluations import CheckpointRef, LossRow, LossUnit, TestRows, UnitResult
from nearfirst.contracts.problems import InvalidModel
from nearfirst.data.test_rows import TestRow, read_test_rows
from nearfirst.queue.context import RunContext, RunResult

if TYPE_CHECKING:
    from nearfirst_training.checkpoint_loss import CheckpointLoss, ExampleLosses

LOSSES = "losses.jsonl"
_KEPT_TEST_SETS = 4


def measure_loss(context: RunContext) -> RunResult:
    """Measure a unit: a `UnitResult` with the loss, and every example's loss as the artifact.

    Raises:
        InvalidModel: the checkpoint was deleted, has other bytes than the unit's, or can't be loaded.
        InvalidInput: the test set has no such rows.
        NonFiniteLoss: a loss isn't finite.
        Stopped: cancelled, fenced or interrupted.
    """
    from nearfirst_training.checkpoint_loss import TestSet, loss_summary

    unit = LossUnit.model_validate(context.spec)
    checkpoint = opened(unit.checkpoint)
    path, selection = context.worker.store.local_path(unit.test.dataset_digest), unit.test.model_dump_json()
    rows = _test_rows(path, selection)
    measured = _resident().measure(
        checkpoint,
        TestSet(selection, [row.example for row in rows]),
        step=unit.checkpoint.step,
        template=unit.template,
        max_length=unit.max_length,
        precision=unit.precision,
        progress=context.progress,
    )
    tasks = [row.example.task for row in rows]
    summary = loss_summary(measured.losses, tasks, [_category(row) for row in rows], unit.fidelity)
    with tempfile.TemporaryDirectory(prefix="nearfirst-loss-") as folder:
        file = Path(folder) / LOSSES
        write_losses(file, rows, measured)
        artifact = context.worker.store.put_artifact({LOSSES: file})
    details = {
        "device": _resident().device_name,
        "precision": unit.precision,
        "torch": version("torch"),
        "transformers": version("transformers"),
        "num_tokens": measured.num_tokens,
        "num_truncated": measured.num_truncated,
    }
    return RunResult(UnitResult(metrics=[summary], details=details).model_dump(mode="json"), artifact)


def opened(checkpoint: CheckpointRef) -> CheckpointFolder:
    """The checkpoint that a unit names.

    Raises:
        InvalidModel: it isn't there any more, or has other bytes.
    """
    folder = open_checkpoint(checkpoint.path)
    if folder.digest != checkpoint.digest:
        raise InvalidModel(
            f"checkpoint {checkpoint.path} has digest {folder.digest}, wanted {checkpoint.digest}: it was written anew"
        )
    return folder


def write_losses(path: Path, rows: Sequence[TestRow], measured: "ExampleLosses") -> None:
    """Write a `LossRow` a line, in the test set's order."""
    losses, num_scored = measured.losses.tolist(), measured.num_scored.tolist()
    with path.open("w", encoding="utf-8") as file:
        for row, loss, scored in zip(rows, losses, num_scored, strict=True):
            line = LossRow(
                index=row.index,
                id=row.example.id,
                task=row.example.task,
                loss=None if math.isnan(loss) else loss,
                num_scored=scored,
            )
            file.write(line.model_dump_json() + "\n")


def _category(row: TestRow) -> str:
    category = row.example.meta.get("category")
    return category if isinstance(category, str) else ""


@lru_cache(maxsize=_KEPT_TEST_SETS)
def _test_rows(path: Path, selection: str) -> list[TestRow]:
    """The rows of a file of the store, whose path stands for its bytes."""
    return read_test_rows(path, TestRows.model_validate_json(selection))


@cache
def _resident() -> "CheckpointLoss":
    """This process's model, made by its first unit: an idle worker needs no torch."""
    import torch

    from nearfirst_training.checkpoint_loss import CheckpointLoss

    return CheckpointLoss(torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu"))
