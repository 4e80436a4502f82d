"""Recomputing a run's receipt from its order alone, and holding every other trace of the run against it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from nearfirst.contracts.arrangements import OrderRow
from nearfirst.contracts.problems import CorruptArtifact, NotReady, OrderMismatch
from nearfirst.contracts.receipts import Receipt, extend_order, order_genesis
from nearfirst.contracts.training import Checkpoint, TrainSettings
from nearfirst.data.steps import rows_to_consume
from nearfirst_training.checkpoints import list_checkpoints
from nearfirst_training.folder import RunFolder, read_log
from nearfirst_training.plan import Plan, first_difference


@dataclass(frozen=True)
class Verification:
    """What agrees with the order: everything, or there would be no verification."""

    receipt: Receipt
    checkpoints: list[Checkpoint]


def verify_run(path: Path) -> Verification:
    """Check that a finished run consumed its order, step by step.

    The receipt's chain is computed from order.jsonl and compared with consumed.jsonl at each step, with receipt.json,
    and with the head in each checkpoint's manifest. No model or dataset is read.

    Args:
        path: the folder that training wrote.

    Raises:
        NotReady: there is no finished run.
        OrderMismatch: something differs; the detail names the first step at which it does.
    """
    folder = RunFolder(path)
    receipt = folder.read_receipt()
    for needed in (folder.spec, folder.order, folder.consumed):
        if not needed.is_file():
            raise NotReady(f"{path} has no {needed.name}: the receipt can't be recomputed without it")
    ids, digest = _read_order_ids(folder.order, receipt)
    settings = TrainSettings.model_validate(json.loads(folder.spec.read_text())["settings"])
    plan = Plan(
        dataset_digest=receipt.dataset_digest,
        arrangement_digest=receipt.arrangement_digest,
        index=np.arange(len(ids), dtype=np.int64),
        ids=ids,
        batch_size=settings.global_batch_size,
        num_rows=rows_to_consume(len(ids), settings),
    )
    _check_consumed(folder.consumed, plan)
    if digest != receipt.arrangement_digest:
        raise OrderMismatch(f"step 1: order.jsonl is {digest}, the receipt is for {receipt.arrangement_digest}")
    heads = [head.hex() for head in plan.heads()]
    _check_receipt(receipt, plan, heads[-1])
    checkpoints = list_checkpoints(folder.checkpoints)
    for checkpoint in checkpoints:
        planned = heads[checkpoint.step] if checkpoint.step < len(heads) else "nothing"
        if checkpoint.receipt_head != planned:
            raise OrderMismatch(
                f"step {checkpoint.step}: the {checkpoint.tier} checkpoint's receipt is {checkpoint.receipt_head}, "
                f"the order gives {planned}"
            )
    return Verification(receipt=receipt, checkpoints=checkpoints)


def _read_order_ids(path: Path, receipt: Receipt) -> tuple[list[str], str]:
    """The order's ids, and its digest.

    Raises:
        CorruptArtifact: a row isn't an order row.
        OrderMismatch: a row's prefix digest doesn't follow from the rows up to it.
    """
    ids: list[str] = []
    head = order_genesis(receipt.dataset_digest)
    for number, line in enumerate(read_log(path), start=1):
        try:
            row = OrderRow.model_validate(line)
        except ValidationError as error:
            raise CorruptArtifact(f"{path} row {number} isn't an order row: {error.errors()[0]['msg']}") from error
        head = extend_order(head, row.id)
        if head.hex() != row.prefix_digest:
            raise OrderMismatch(
                f"step {len(ids) // receipt.global_batch_size + 1}: {path.name} row {number} ({row.id!r}) gives prefix "
                f"digest {head.hex()}, it says {row.prefix_digest}"
            )
        ids.append(row.id)
    return ids, f"sha256:{head.hex()}"


def _check_consumed(path: Path, plan: Plan) -> None:
    """Hold the log of consumed ids against the plan.

    Raises:
        OrderMismatch: ids or head of a step differ, or the log has fewer or more steps.
    """
    lines = read_log(path)
    heads = plan.heads()
    next(heads)
    for step, head in enumerate(heads, start=1):
        line: dict[str, Any] = next(lines, {})
        if not line:
            raise OrderMismatch(f"step {step}: {path.name} ends before it, the order has {plan.num_steps} steps")
        planned_ids = plan.step_ids(step)
        if line["ids"] != planned_ids:
            raise OrderMismatch(f"step {step}: {first_difference(line['ids'], planned_ids)}")
        if (line["step"], line["head"]) != (step, head.hex()):
            raise OrderMismatch(
                f"step {step}: {path.name} has step {line['step']} with receipt {line['head']}, "
                f"the order gives {head.hex()}"
            )
    if next(lines, None) is not None:
        raise OrderMismatch(f"step {plan.num_steps + 1}: {path.name} has it, the order ends before")


def _check_receipt(receipt: Receipt, plan: Plan, head: str) -> None:
    """Hold receipt.json against the plan."""
    wanted = Receipt(
        arrangement_digest=plan.arrangement_digest,
        dataset_digest=plan.dataset_digest,
        global_batch_size=plan.batch_size,
        num_rows=plan.num_rows,
        steps=plan.num_steps,
        head=head,
        verified=True,
    )
    for name, value in wanted.model_dump().items():
        if getattr(receipt, name) != value:
            raise OrderMismatch(
                f"step {plan.num_steps}: receipt.json has {name} {getattr(receipt, name)!r}, the order gives {value!r}"
            )
