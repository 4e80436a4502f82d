"""For each test row, the nearest or farthest train row that nobody has taken yet, exactly, without an N x M matrix.

Every test row keeps a list of its best K remaining train rows under the total order (similarity, then lower index), and
walks down it past rows that others took. A list that runs dry is filled again from the rows that remain. Rows outside a
list are worse than all rows in it, and rows are only ever removed, so the first remaining row of a list is the best of
all that remain.

Shapes: N train rows, M test rows, D dimensions, K candidates; B train rows and C test rows of a block.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nearfirst.contracts.progress import ProgressCallback, ignore_progress
from nearfirst.similarity.blocks import DEFAULT_MEMORY_BUDGET_BYTES, block_shape, spans
from nearfirst.similarity.embeddings import check_same_dimensions
from nearfirst.similarity.exact import exact_similarities, split_rows

_MAX_LIST_LENGTH = 1024
"""Longer lists cost more to fill than they save in fillings, on real data with 1,000 test rows."""
_BYTES_PER_CANDIDATE = 16


class BestRemaining(NamedTuple):
    """What every test row would take now."""

    rows: npt.NDArray[np.int64]
    """(M,) train row."""
    similarity: npt.NDArray[np.float64]
    """(M,) its similarity to the test row."""


class CandidateLists:
    """The remaining train rows, as each test row ranks them.

    Args:
        train_ND: (N, D) float32 unit rows (`normalise`); may be memory-mapped.
        test_MD: (M, D) float32 unit rows.
        farthest: rank by ascending similarity instead of descending.
        memory_budget_bytes: what lists and blocks may take beside the embeddings; gives K. Changes no result.
        progress: called now and then while lists are filled, with remaining rows read; it may raise to stop.

    Ties: of equally similar rows the lower train index comes first, in both directions.

    Raises:
        InvalidEmbeddings: train and test differ in D.

    Notes:
        A filling reads the remaining rows once and multiplies them with the test rows whose lists are short. Memory:
        16 M K bytes and a block.
    """

    def __init__(
        self,
        train_ND: npt.NDArray[np.float32],
        test_MD: npt.NDArray[np.float32],
        *,
        farthest: bool = False,
        memory_budget_bytes: int = DEFAULT_MEMORY_BUDGET_BYTES,
        progress: ProgressCallback = ignore_progress,
    ) -> None:
        check_same_dimensions(train_ND, test_MD)
        self._train_ND = train_ND
        self._test_MD = test_MD
        self._sign = -1.0 if farthest else 1.0
        self._progress = progress
        num_train, num_test = len(train_ND), len(test_MD)
        self._remaining_N = np.ones(num_train, dtype=np.bool_)
        self._num_remaining = num_train
        affordable = memory_budget_bytes // 2 // (_BYTES_PER_CANDIDATE * num_test)
        self._max_length = max(1, min(num_train, _MAX_LIST_LENGTH, affordable))
        self._shape = block_shape(num_train, num_test, train_ND.shape[1], memory_budget_bytes // 2)
        self._rows_MK = np.zeros((num_test, self._max_length), dtype=np.int64)
        self._keys_MK = np.zeros((num_test, self._max_length))
        self._place_M = np.zeros(num_test, dtype=np.int64)
        self._length = np.zeros(num_test, dtype=np.int64)

    @property
    def num_remaining(self) -> int:
        """Train rows that were not removed."""
        return self._num_remaining

    def remove(self, rows: npt.NDArray[np.int64]) -> None:
        """Take distinct rows, all of them remaining, out of the pool."""
        self._remaining_N[rows] = False
        self._num_remaining -= len(rows)

    def best(self) -> BestRemaining:
        """The best remaining train row of every test row; the pool must not be empty."""
        assert self._num_remaining > 0, "no rows remain"
        self._skip_removed()
        if bool((self._place_M >= self._length).any()):
            # Lists that are almost dry would ask for the same reading of the pool a few rounds later.
            short_m = np.flatnonzero(self._length - self._place_M <= self._max_length // 4)
            self._fill(short_m)
        at_M = np.arange(len(self._test_MD))
        return BestRemaining(self._rows_MK[at_M, self._place_M], self._sign * self._keys_MK[at_M, self._place_M])

    def _skip_removed(self) -> None:
        """Move every list's place to its first remaining row, or to its end."""
        open_m = np.flatnonzero(self._place_M < self._length)
        while len(open_m):
            gone = ~self._remaining_N[self._rows_MK[open_m, self._place_M[open_m]]]
            open_m = open_m[gone]
            self._place_M[open_m] += 1
            open_m = open_m[self._place_M[open_m] < self._length[open_m]]

    def _fill(self, tests_m: npt.NDArray[np.int64]) -> None:
        """Give some test rows new lists, from the rows that remain."""
        remaining_n = np.flatnonzero(self._remaining_N)
        length = min(self._max_length, len(remaining_n))
        done, total = 0, len(remaining_n) * len(range(0, len(tests_m), self._shape.test))
        for test_span in spans(len(tests_m), self._shape.test):
            tests_C = tests_m[test_span]
            test_split = split_rows(self._test_MD[tests_C])
            keys_Ck = np.empty((len(tests_C), 0))
            rows_Ck = np.empty((len(tests_C), 0), dtype=np.int64)
            for span in spans(len(remaining_n), self._shape.train):
                rows_B = remaining_n[span]
                keys_CB = self._sign * exact_similarities(test_split, split_rows(self._train_ND[rows_B]))
                keys_Ck, rows_Ck = _keep_best(keys_Ck, rows_Ck, keys_CB, rows_B, length)
                done += len(rows_B)
                self._progress(done, total, "rows read")
            # Columns are in ascending row order, so a stable sort leaves ties with the lower index first.
            by_key_Ck = np.argsort(-keys_Ck, axis=1, kind="stable")
            self._keys_MK[tests_C, :length] = np.take_along_axis(keys_Ck, by_key_Ck, axis=1)
            self._rows_MK[tests_C, :length] = np.take_along_axis(rows_Ck, by_key_Ck, axis=1)
        self._place_M[tests_m] = 0
        self._length[tests_m] = length


def _keep_best(
    keys_Ck: npt.NDArray[np.float64],
    rows_Ck: npt.NDArray[np.int64],
    keys_CB: npt.NDArray[np.float64],
    rows_B: npt.NDArray[np.int64],
    length: int,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """The `length` highest keys of each test row among those kept so far and a new block.

    Columns are in ascending row order before and after; `rows_B` are above all kept rows. Of equal keys the lower rows
    stay.
    """
    all_keys = np.concatenate([keys_Ck, keys_CB], axis=1)
    all_rows = np.concatenate([rows_Ck, np.broadcast_to(rows_B, keys_CB.shape)], axis=1)
    surplus = all_keys.shape[1] - length
    if surplus <= 0:
        return all_keys, all_rows
    last_C1 = np.partition(all_keys, surplus, axis=1)[:, surplus, None]
    keep = all_keys >= last_C1
    crowded_c = np.flatnonzero(keep.sum(axis=1) > length)
    if len(crowded_c):
        tied = all_keys[crowded_c] == last_C1[crowded_c]
        num_above_c1 = (keep[crowded_c] & ~tied).sum(axis=1, keepdims=True)
        keep[crowded_c] &= ~tied | (np.cumsum(tied, axis=1) <= length - num_above_c1)
    shape = (len(all_keys), length)
    return all_keys[keep].reshape(shape), all_rows[keep].reshape(shape)
