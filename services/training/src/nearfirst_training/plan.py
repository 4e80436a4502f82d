"""Which rows each optimizer step consumes, and the proof that it did.

Legend: N rows of the order, B rows of a step. Steps count from 1: step t consumes positions [(t-1)B, tB) of the order
repeated over the epochs. A step may span two epochs; only the last one of all may have fewer than B rows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from nearfirst.contracts.problems import OrderMismatch
from nearfirst.contracts.receipts import Receipt, extend_receipt, receipt_genesis


@dataclass(frozen=True)
class Plan:
    """The order to train on, cut into steps."""

    dataset_digest: str
    arrangement_digest: str
    index: NDArray[np.int64]
    """(N,) row in the training dataset of each position of the order."""
    ids: Sequence[str]
    """(N,) example id of each position of the order: what the receipt is checked against."""
    batch_size: int
    num_rows: int
    """Rows to consume over all epochs."""

    @property
    def num_steps(self) -> int:
        """Optimizer steps; the last may have fewer rows."""
        return -(-self.num_rows // self.batch_size)

    def positions(self, step: int) -> NDArray[np.int64]:
        """Positions in the order that step `step` (from 1) consumes, in order."""
        start = (step - 1) * self.batch_size
        stop = min(start + self.batch_size, self.num_rows)
        return np.arange(start, stop, dtype=np.int64) % len(self.ids)

    def step_ids(self, step: int) -> list[str]:
        """Example ids that step `step` (from 1) consumes, in order."""
        return [self.ids[position] for position in self.positions(step).tolist()]

    def heads(self) -> Iterator[bytes]:
        """The receipt's heads h_0, h_1, ..., h_steps as the plan alone gives them."""
        head = receipt_genesis(self.arrangement_digest)
        yield head
        for step in range(1, self.num_steps + 1):
            head = extend_receipt(head, step, self.step_ids(step))
            yield head

    def head_after(self, step: int) -> bytes:
        """h_step as the plan alone gives it."""
        return next(head for reached, head in enumerate(self.heads()) if reached == step)


class ReceiptChain:
    """The chain of consumed ids, held against the plan's at every step."""

    def __init__(self, plan: Plan, *, step: int = 0, head: bytes | None = None) -> None:
        """Start at h_0, or go on from `head` after `step`.

        Raises:
            OrderMismatch: `head` is not what the plan gives for `step`.
        """
        self._plan = plan
        self._planned = plan.head_after(step)
        self.head = self._planned if head is None else head
        self.step = step
        if self.head != self._planned:
            raise OrderMismatch(
                f"step {step}: the receipt so far is {self.head.hex()}, the order gives {self._planned.hex()}"
            )

    def consume(self, ids: Sequence[str]) -> bytes:
        """Extend the chain by the ids of the next step's batch, as the batch itself has them.

        Returns:
            The new head.

        Raises:
            OrderMismatch: they are not the plan's; the detail names the step and the first wrong row.
        """
        self.step += 1
        self.head = extend_receipt(self.head, self.step, ids)
        planned_ids = self._plan.step_ids(self.step)
        self._planned = extend_receipt(self._planned, self.step, planned_ids)
        if self.head != self._planned:
            raise OrderMismatch(f"step {self.step}: {first_difference(ids, planned_ids)}")
        return self.head

    def receipt(self) -> Receipt:
        """The proof so far. `verified` holds because `consume` lets nothing else pass."""
        plan = self._plan
        return Receipt(
            arrangement_digest=plan.arrangement_digest,
            dataset_digest=plan.dataset_digest,
            global_batch_size=plan.batch_size,
            num_rows=min(self.step * plan.batch_size, plan.num_rows),
            steps=self.step,
            head=self.head.hex(),
            verified=self.head == self._planned,
        )


def first_difference(consumed: Sequence[str], planned: Sequence[str]) -> str:
    """Say where two lists of ids part: row (from 1), the id that was consumed, the id of the order."""
    for row, (got, wanted) in enumerate(zip_longest(consumed, planned), start=1):
        if got != wanted:
            was = "nothing" if got is None else repr(got)
            should = "nothing" if wanted is None else repr(wanted)
            return f"row {row} of the step was {was}, the order has {should}"
    return "the ids are the order's, but an earlier step's were not"
