"""Orders to look at: their rows with the texts, and how two of them differ."""

from pydantic import Field

from nearfirst.contracts.arrangements import OrderRow
from nearfirst.contracts.base import Contract
from nearfirst.contracts.datasets import ExampleRow

MAX_OVERLAP_POINTS = 200


class ArrangedExample(Contract):
    """One row of an order with its text, beside the test row that it is nearest to."""

    row: OrderRow
    example: ExampleRow
    nearest_test: ExampleRow | None
    """None without embeddings."""


class OrderOverlap(Contract):
    """How two orders of the same dataset differ. Positions count from 0, the row that is trained on first."""

    num_rows: int
    """Of the first order."""
    num_rows_other: int
    num_shared: int
    """Rows that are in both."""
    num_same_start: int
    """Rows before the first position at which the orders differ."""
    rows: list[int] = Field(max_length=MAX_OVERLAP_POINTS)
    """Numbers of first rows, ascending; the last is the length of the shorter order."""
    shared: list[float]
    """Of the first `rows[k]` rows of each order: the share that is in both."""
    rank_correlation: float | None
    """Spearman's, of the positions of the shared rows: 1 the same order, -1 the reverse. None with fewer than two."""
