"""Rows and their vectors to an order and what is known of it: what the worker and `nearfirst arrange` share.

Shapes: N train rows that take part, n of them in the order, M test rows, D dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nearfirst.contracts.arrangements import ArrangementRules, TextRule
from nearfirst.contracts.progress import ProgressCallback, ignore_progress
from nearfirst.data.example import Example, embedded_text
from nearfirst.data.order import OrderTable, order_table
from nearfirst.similarity.blocks import DEFAULT_MEMORY_BUDGET_BYTES
from nearfirst_arrangement.measures.inputs import MeasuredOrder, MeasuredRows, RowVectors
from nearfirst_arrangement.measures.measure import Measures, measure_order
from nearfirst_arrangement.methods import ArrangedOrder, Precomputed, arrange
from nearfirst_arrangement.methods.selection import first_of_each_task


@dataclass(frozen=True, slots=True)
class SideRows:
    """The rows of a dataset that take part on one side, and what was computed of them."""

    dataset_digest: str
    examples: Sequence[Example]
    """All of the dataset's, by index."""
    index: npt.NDArray[np.int64]
    """(r,) rows that take part, ascending."""
    embeddings: npt.NDArray[Any] | None
    """(r, D) of any real dtype and length; may be memory-mapped. None where there are none."""
    truncated: npt.NDArray[np.bool_] | None = None
    """(r,) True where the encoder cut the row's text; None where nobody counted."""

    @property
    def task_codes(self) -> npt.NDArray[np.int64] | None:
        """(r,) tasks as numbers, by first appearance; None where no row has a task."""
        number_of: dict[str, int] = {}
        tasks = [self.examples[row].task for row in self.index.tolist()]
        codes = np.array([number_of.setdefault(task, len(number_of)) for task in tasks], dtype=np.int64)
        return codes if any(number_of) else None

    def measured(self, rows: npt.NDArray[np.int64], text: TextRule) -> MeasuredRows:
        """Some of the rows that take part, in this order."""
        examples = [self.examples[row] for row in self.index[rows].tolist()]
        return MeasuredRows(
            ids=[example.id for example in examples],
            texts=[embedded_text(example, text) for example in examples],
            instructions=[embedded_text(example, TextRule.INSTRUCTION) for example in examples],
            tasks=[example.task for example in examples],
            truncated=None if self.truncated is None else self.truncated[rows],
        )


class Arranged(NamedTuple):
    """An order and what is known of it."""

    table: OrderTable
    num_rounds: int | None
    computed: dict[str, Any]
    """How: JSON values such as the similarity quantum and WSD's weights."""
    measures: Measures


def arrange_sides(
    rules: ArrangementRules,
    train: SideRows,
    test: SideRows,
    *,
    text: TextRule = TextRule.FIRST_TURN,
    precomputed: Precomputed | None = None,
    memory_budget_bytes: int = DEFAULT_MEMORY_BUDGET_BYTES,
    progress: ProgressCallback = ignore_progress,
) -> Arranged:
    """Arrange train rows for test rows, and measure the order.

    Args:
        rules: the method and its parameters.
        train: the pool, at least one row.
        test: what it is arranged for; at least one row.
        text: which text of an example was embedded; leaks are looked for in it.
        precomputed: what shards found out about all rows of both sides.
        memory_budget_bytes: what similarity may use beyond the embeddings.
        progress: called with absolute counts of the phase that runs; it may raise to stop.

    Raises:
        InvalidInput, InvalidEmbeddings: as `arrange` and `measure_order`.
    """
    test_tasks = test.task_codes
    arranged = arrange(
        rules,
        train.embeddings,
        test.embeddings,
        len(train.index),
        train_tasks=train.task_codes,
        test_tasks=test_tasks,
        precomputed=precomputed,
        memory_budget_bytes=memory_budget_bytes,
        progress=progress,
    )
    table = order_table(
        train.dataset_digest,
        train.index[arranged.index],
        ids=[example.id for example in train.examples],
        tasks=[example.task for example in train.examples],
        round=arranged.round,
        score=arranged.score,
        nearest_test=None if arranged.nearest_test is None else test.index[arranged.nearest_test],
        test_ids=[example.id for example in test.examples],
        nearest_similarity=arranged.nearest_similarity,
    )
    test_rows = np.arange(len(test.index))
    if rules.test_per_task is not None and test_tasks is not None:
        test_rows = first_of_each_task(test_tasks, rules.test_per_task)
    order = MeasuredOrder(
        train.measured(arranged.index, text),
        test.measured(test_rows, text),
        _vectors(train, test, arranged, test_rows),
        rules.similarity,
    )
    measures = measure_order(order, fidelity=rules.fidelity, memory_budget_bytes=memory_budget_bytes, progress=progress)
    return Arranged(table, arranged.num_rounds, arranged.report, measures)


def _vectors(
    train: SideRows, test: SideRows, arranged: ArrangedOrder, test_rows: npt.NDArray[np.int64]
) -> RowVectors | None:
    if (
        train.embeddings is None
        or test.embeddings is None
        or arranged.nearest_test is None
        or arranged.nearest_similarity is None
    ):
        return None
    return RowVectors(
        train=train.embeddings,
        index=arranged.index,
        test=test.embeddings if len(test_rows) == len(test.index) else test.embeddings[test_rows],
        nearest_test=np.searchsorted(test_rows, arranged.nearest_test),
        nearest_similarity=arranged.nearest_similarity,
    )
