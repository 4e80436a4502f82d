"""What is measured: an order's rows and its test rows.

Shapes: N train rows of the dataset, n of them in the order, M test rows, D dimensions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nearfirst.contracts.arrangements import Similarity
from nearfirst.contracts.problems import InvalidEmbeddings, InvalidInput
from nearfirst.similarity.embeddings import check_same_dimensions, normalise


@dataclass(frozen=True, slots=True)
class MeasuredRows:
    """Rows of one side; the fields are parallel."""

    ids: Sequence[str]
    texts: Sequence[str]
    """Embedded texts (`embedded_text`)."""
    instructions: Sequence[str]
    """First user turns."""
    tasks: Sequence[str] | None = None
    """None, or `""` for every row: without tasks."""
    truncated: npt.NDArray[np.bool_] | None = None
    """Whether the encoder cut the text; None where nobody counted."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def known_tasks(self) -> Sequence[str] | None:
        """The tasks; None where no row has one."""
        return self.tasks if self.tasks is not None and any(self.tasks) else None

    def check(self, name: str) -> None:
        """Refuse no rows, and fields of different lengths.

        Raises:
            InvalidInput: with the field and both numbers.
        """
        if not len(self):
            raise InvalidInput(f"{name}: got no rows, wanted at least one to measure")
        for field in ("texts", "instructions", "tasks", "truncated"):
            values = getattr(self, field)
            if values is not None and len(values) != len(self):
                raise InvalidInput(f"{name}.{field}: got {len(values)}, wanted {len(self)}, one a row")


@dataclass(frozen=True, slots=True)
class RowVectors:
    """Embeddings of both sides, and what the arrangement found out about them."""

    train: npt.ArrayLike
    """(N, D) of the dataset, in its order, as `arrange` takes them; may be memory-mapped."""
    index: npt.NDArray[np.int64]
    """(n,) rows of `train` in training order."""
    test: npt.ArrayLike
    """(M, D)."""
    nearest_test: npt.NDArray[np.int64]
    """(n,) test row that each row of the order is nearest to."""
    nearest_similarity: npt.NDArray[np.float64]
    """(n,) its cosine similarity to it, -1 to 1."""


@dataclass(frozen=True, slots=True)
class MeasuredOrder:
    """An order and the test set that it was made for."""

    train: MeasuredRows
    """n rows, in training order."""
    test: MeasuredRows
    """M rows."""
    vectors: RowVectors | None = None
    """None: the parts that need embeddings are left out."""
    similarity: Similarity = Similarity.COSINE
    """How the report gives distances to the nearest test row."""


@dataclass(frozen=True, slots=True)
class UnitVectors:
    """`RowVectors` after checks, with float32 unit rows."""

    train: npt.NDArray[np.float32]
    """(N, D)"""
    index: npt.NDArray[np.int64]
    """(n,)"""
    test: npt.NDArray[np.float32]
    """(M, D)"""
    nearest_test: npt.NDArray[np.int64]
    """(n,)"""
    nearest_similarity: npt.NDArray[np.float64]
    """(n,)"""

    def __len__(self) -> int:
        return len(self.index)

    def ordered(self, positions: slice) -> npt.NDArray[np.float32]:
        """Embeddings of some positions of the order."""
        return self.train[self.index[positions]]


def unit_vectors(order: MeasuredOrder) -> UnitVectors | None:
    """The order's embeddings, normalised as `arrange` does.

    Raises:
        InvalidEmbeddings: other row counts or widths than wanted, rows without a direction, indices of no row.
    """
    vectors = order.vectors
    if vectors is None:
        return None
    train_ND = normalise(vectors.train, name="train_embeddings")
    test_MD = normalise(vectors.test, name="test_embeddings")
    check_same_dimensions(train_ND, test_MD)
    wanted = {
        "index": (len(vectors.index), len(order.train)),
        "nearest_test": (len(vectors.nearest_test), len(order.train)),
        "nearest_similarity": (len(vectors.nearest_similarity), len(order.train)),
        "test_embeddings": (len(test_MD), len(order.test)),
    }
    for name, (got, number) in wanted.items():
        if got != number:
            raise InvalidEmbeddings(f"{name}: got {got} rows, wanted {number}")
    for name, rows, number in (
        ("index", vectors.index, len(train_ND)),
        ("nearest_test", vectors.nearest_test, len(test_MD)),
    ):
        if rows.min() < 0 or rows.max() >= number:
            raise InvalidEmbeddings(f"{name}: got rows {rows.min()} to {rows.max()}, wanted 0 to {number - 1}")
    return UnitVectors(train_ND, vectors.index, test_MD, vectors.nearest_test, vectors.nearest_similarity)
