"""How a product of N train rows and M test rows is cut up so that it fits a memory budget."""

from collections.abc import Iterator
from typing import NamedTuple

DEFAULT_MEMORY_BUDGET_BYTES = 2**30

_MAX_TEST_BLOCK = 2048
_MAX_TRAIN_BLOCK = 8192
_MAX_CELLS = 2**20
"""Similarities in a block: larger blocks make no product faster and leave the processor's caches."""

_BYTES_PER_CELL = 64
"""A float32 product; where many pairs are near each other, their indices or their exact products."""
_BYTES_PER_TRAIN_COMPONENT = 96
"""A float32 copy, two float64 parts, and the same of pairs that are computed exactly."""
_BYTES_PER_TEST_COMPONENT = 32
"""A float32 copy and three float64 parts."""


class BlockShape(NamedTuple):
    """Rows of a block on both sides."""

    train: int
    test: int


def block_shape(num_train: int, num_test: int, num_dimensions: int, memory_budget_bytes: int) -> BlockShape:
    """The block that is worked on at a time.

    Args:
        num_train: rows of the train side.
        num_test: rows of the test side.
        num_dimensions: D.
        memory_budget_bytes: what a block and its temporaries may take; a budget below one row's need gives blocks of
            one row.

    Returns:
        At least (1, 1). Results never depend on it.
    """
    test = _even_share(max(1, num_test), _MAX_TEST_BLOCK)
    train = max(1, min(num_train, _MAX_TRAIN_BLOCK, _MAX_CELLS // test))
    while _block_bytes(train, test, num_dimensions) > memory_budget_bytes and max(train, test) > 1:
        if train >= test:
            train = (train + 1) // 2
        else:
            test = (test + 1) // 2
    return BlockShape(train, test)


def spans(length: int, step: int) -> Iterator[slice]:
    """Consecutive slices of at most `step` that cover `range(length)`."""
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))


def _even_share(length: int, most: int) -> int:
    """The size of the fewest equal pieces of at most `most`: the last block is then not a sliver."""
    num_pieces = -(-length // most)
    return -(-length // num_pieces)


def _block_bytes(train: int, test: int, num_dimensions: int) -> int:
    components = _BYTES_PER_TRAIN_COMPONENT * train + _BYTES_PER_TEST_COMPONENT * test
    return _BYTES_PER_CELL * train * test + components * num_dimensions
