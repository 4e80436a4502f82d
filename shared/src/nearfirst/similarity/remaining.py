"""For each test row, the nearest or farthest train row that nobody has taken yet, exactly, without an N x M matrix.

Every test row keeps a list of its best remaining train rows, and walks down it past rows that others took. A list that
runs dry is filled again from the rows that remain. Rows outside a list are worse than those that it is used for, and
rows are only ever removed, so the best row in a list is the best of all that remain.

Lists are in the order of float32 keys, each within a known bound of its similarity (`screening.py`). Only when a list's
first remaining row has rivals within twice the bound are these computed exactly.

Shapes: N train rows, M test rows, m of them distinct, D dimensions, W entries of a list, k pairs.
"""

import numpy as np
import numpy.typing as npt
import torch

from nearfirst.contracts.progress import ProgressCallback, ignore_progress
from nearfirst.similarity.blocks import DEFAULT_MEMORY_BUDGET_BYTES, BlockShape, block_shape
from nearfirst.similarity.candidates import CandidateBlock, RowsRead, default_list_length
from nearfirst.similarity.deep_lists import NearestTests, deep_list_length, deep_lists
from nearfirst.similarity.embeddings import check_same_dimensions, distinct_rows
from nearfirst.similarity.exact import check_dimensions
from nearfirst.similarity.pairs import similarities_with, unit_rows
from nearfirst.similarity.screening import default_device, error_bound, full_precision
from nearfirst.similarity.shortlists import RankedRows, Ranking, ScreenedRows, screened_rows
from nearfirst.similarity.workers import num_workers

_FIRST_LOOK = 16
"""Entries of a list that are looked at together; twice as many each time they are not enough."""
_LISTS_PER_WANTED = 4
_LEAST_LENGTH = 32


class CandidateLists:
    """The remaining train rows, as each test row ranks them.

    Args:
        train_ND: (N, D) float32 unit rows (`normalise`); may be memory-mapped.
        test_MD: (M, D) float32 unit rows.
        farthest: rank by ascending similarity instead of descending.
        num_wanted: about how many rows will be removed in all; makes the lists shorter. None: all. Changes no result.
        with_nearest: find every train row's nearest test row on the way, for `nearest`; not where farthest are ranked.
        initial: the test rows' candidates among all train rows, if somebody has found them: saves the first filling.
        memory_budget_bytes: what lists and blocks may take beside the embeddings; gives K. Changes no result.
        progress: called now and then while lists are filled, with remaining rows read; it may raise to stop.
        device: where to multiply; None: the GPU where there is one. Changes no result.

    Ties: of equally similar rows the lower train index comes first, in both directions.

    Raises:
        InvalidEmbeddings: train and test differ in D, or D is above `MAX_DIMENSIONS`.

    Notes:
        Identical test rows share a list. A filling reads the remaining rows once. To the last row, it gives all test
        rows new lists (`deep_lists.py`): they run dry at about the same time. To a number of rows, or where that leaves
        a list without use, it multiplies with the test rows whose lists are short (`shortlists.screened_rows`). Memory:
        half of the budget for lists and what fills them, and blocks.
    """

    def __init__(
        self,
        train_ND: npt.NDArray[np.float32],
        test_MD: npt.NDArray[np.float32],
        *,
        farthest: bool = False,
        num_wanted: int | None = None,
        with_nearest: bool = False,
        initial: CandidateBlock | None = None,
        memory_budget_bytes: int = DEFAULT_MEMORY_BUDGET_BYTES,
        progress: ProgressCallback = ignore_progress,
        device: torch.device | None = None,
    ) -> None:
        check_same_dimensions(train_ND, test_MD)
        check_dimensions(train_ND.shape[1])
        self._distinct = distinct_rows(test_MD)
        self._train_ND = train_ND
        self._test_mD = test_MD[self._distinct.first]
        self._right = unit_rows(self._test_mD)
        self._sign = -1.0 if farthest else 1.0
        self._with_nearest = with_nearest and not farthest
        self._device = device or default_device()
        self._block_budget_bytes = memory_budget_bytes // 2 // num_workers(self._device)
        self._progress = progress
        num_test = len(self._test_mD)
        self._remaining_N = np.ones(len(train_ND), dtype=np.bool_)
        self._num_remaining = len(train_ND)
        self._max_length = default_list_length(len(train_ND), num_test, memory_budget_bytes)
        if num_wanted is not None:
            enough = max(_LEAST_LENGTH, _LISTS_PER_WANTED * -(-num_wanted // num_test))
            self._max_length = min(self._max_length, enough)
        self._is_deep = num_wanted is None and self._device.type == "cpu"
        self._deep_length = deep_list_length(num_test, memory_budget_bytes)
        self.nearest: NearestTests | None = None
        """Every train row's nearest test row, once somebody has asked for `best`; None where that took another way."""
        self._lists = _Lists(num_test, 2 * error_bound(train_ND.shape[1]))
        if initial is not None:
            chosen = self._distinct.first
            ranked = RankedRows(initial.rows_MK[chosen], initial.keys_MK[chosen])
            self._lists.put(np.arange(num_test), ranked, initial.length_M[chosen])

    @property
    def num_remaining(self) -> int:
        """Train rows that were not removed."""
        return self._num_remaining

    def remove(self, rows: npt.NDArray[np.int64]) -> None:
        """Take distinct rows, all of them remaining, out of the pool."""
        self._remaining_N[rows] = False
        self._num_remaining -= len(rows)

    def best(self) -> npt.NDArray[np.int64]:
        """(M,) the best remaining train row of every test row; the pool must not be empty."""
        assert self._num_remaining > 0, "no rows remain"
        self._lists.skip_removed(self._remaining_N)
        num_left_m = self._lists.num_left()
        if not num_left_m.all():
            self._fill()
        best_m = self._lists.first_rows()
        tests_k, places_k = self._lists.rivals(self._remaining_N)
        if len(tests_k):
            rows_k, key_k = self._exact_keys(tests_k, places_k)
            by_test_k = np.lexsort((rows_k, -key_k, tests_k))
            tests_r, first_r = np.unique(tests_k[by_test_k], return_index=True)
            best_m[tests_r] = rows_k[by_test_k][first_r]
        return best_m[self._distinct.number]

    def _exact_keys(
        self, tests_k: npt.NDArray[np.int64], places_k: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Rows and exact keys of entries, computed for those that no earlier call asked for."""
        lists = self._lists
        rows_k, key_k = lists.rows_mW[tests_k, places_k], lists.exact_mW[tests_k, places_k]
        new = np.flatnonzero(np.isnan(key_k))
        key_k[new] = self._sign * similarities_with(self._right, tests_k[new], self._train_ND, rows_k[new])
        lists.exact_mW[tests_k[new], places_k[new]] = key_k[new]
        return rows_k, key_k

    def _fill(self) -> None:
        """Give test rows whose lists are dry new ones, from the rows that remain."""
        if self._is_deep:
            self._fill_deep()
        num_left_m = self._lists.num_left()
        if num_left_m.all():
            return
        # Lists that are almost dry would ask for the same reading of the pool a few rounds later.
        tests_m = np.flatnonzero(num_left_m <= (0 if self._is_deep else self._max_length // 4))
        ranking = self._ranking(tests_m, self._max_length)
        shape = self._block_shape(len(tests_m))
        reading = RowsRead(self._num_remaining * -(-len(tests_m) // shape.test), self._progress)
        with full_precision():
            for some_m, each in screened_rows(ranking, shape, reading.add):
                length_m = np.full(len(some_m), ranking.length)
                self._lists.put(tests_m[some_m], each, length_m)

    def _fill_deep(self) -> None:
        """Give all test rows new long lists, where one block can hold all of them."""
        num_test = len(self._test_mD)
        shape = self._block_shape(num_test)
        if shape.test < num_test:
            self._is_deep = False
            return
        is_first = self._with_nearest and self._num_remaining == len(self._train_ND)
        ranking = self._ranking(np.arange(num_test), self._deep_length)
        reading = RowsRead(self._num_remaining, self._progress)
        with full_precision():
            found = deep_lists(ranking, shape, reading.add, with_nearest=is_first)
        self._lists.replace(found.lists, found.length)
        if found.nearest is not None:
            first_m = self._distinct.first
            self.nearest = NearestTests(found.nearest.similarity, first_m[found.nearest.test])

    def _ranking(self, tests_m: npt.NDArray[np.int64], length: int) -> Ranking:
        """The remaining rows, to be ranked for some test rows."""
        all_remain = self._num_remaining == len(self._train_ND)
        return Ranking(
            self._train_ND,
            slice(0, len(self._train_ND)) if all_remain else np.flatnonzero(self._remaining_N),
            self._num_remaining,
            self._test_mD[tests_m],
            length=min(length, self._num_remaining),
            sign=self._sign,
            device=self._device,
        )

    def _block_shape(self, num_test: int) -> BlockShape:
        return block_shape(self._num_remaining, num_test, self._train_ND.shape[1], self._block_budget_bytes)


class _Lists:
    """A list for each of m test rows: screened (in the order of float32 keys) or ranked (in exact order).

    Args:
        num_test: m. All lists are empty at first.
        margin: keys further from each other than this are in the order of their similarities.
    """

    def __init__(self, num_test: int, margin: float) -> None:
        self._margin = np.float32(margin)
        self.rows_mW = np.zeros((num_test, 1), dtype=np.int64)
        self._key_mW = np.full((num_test, 1), -np.inf, dtype=np.float32)
        self.exact_mW = np.full((num_test, 1), np.nan)
        """Exact keys, NaN where unknown."""
        self._place_m = np.zeros(num_test, dtype=np.int64)
        self._length_m = np.zeros(num_test, dtype=np.int64)
        self._is_ranked_m = np.zeros(num_test, dtype=np.bool_)

    def put(
        self, tests_m: npt.NDArray[np.int64], lists: RankedRows | ScreenedRows, length_m: npt.NDArray[np.int64]
    ) -> None:
        """Replace lists. The first `length_m` entries of each can be the best row; a screened list has more behind
        them, among which there may be rivals."""
        width = lists.rows.shape[1]
        missing = width - self.rows_mW.shape[1]
        if missing > 0:
            self.rows_mW = np.pad(self.rows_mW, ((0, 0), (0, missing)))
            self._key_mW = np.pad(self._key_mW, ((0, 0), (0, missing)), constant_values=-np.inf)
            self.exact_mW = np.pad(self.exact_mW, ((0, 0), (0, missing)), constant_values=np.nan)
        self.rows_mW[tests_m, :width] = lists.rows
        self._key_mW[tests_m] = -np.inf
        self._key_mW[tests_m, :width] = lists.keys
        self.exact_mW[tests_m] = np.nan
        self._place_m[tests_m] = 0
        self._length_m[tests_m] = length_m
        self._is_ranked_m[tests_m] = isinstance(lists, RankedRows)

    def replace(self, lists: ScreenedRows, length_m: npt.NDArray[np.int64]) -> None:
        """New lists for all test rows, whose arrays are kept; otherwise as `put`."""
        self.rows_mW, self._key_mW = lists
        self.exact_mW = np.full(lists.rows.shape, np.nan)
        self._place_m = np.zeros(len(length_m), dtype=np.int64)
        self._length_m = length_m
        self._is_ranked_m = np.zeros(len(length_m), dtype=np.bool_)

    def num_left(self) -> npt.NDArray[np.int64]:
        """(m,) entries from each list's place on, removed rows among them; 0: the list is dry."""
        return self._length_m - self._place_m

    def _rows_at(self, tests_i: npt.NDArray[np.int64], place_iL: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """(i, L) rows of some lists; beyond the end of the arrays, those of the last place."""
        width = self.rows_mW.shape[1]
        rows_iL: npt.NDArray[np.int64] = self.rows_mW.ravel().take(
            np.minimum(place_iL, width - 1) + tests_i[:, None] * width
        )
        return rows_iL

    def first_rows(self) -> npt.NDArray[np.int64]:
        """(m,) the row at each list's place."""
        rows_m: npt.NDArray[np.int64] = self.rows_mW[np.arange(len(self._place_m)), self._place_m]
        return rows_m

    def skip_removed(self, remaining_N: npt.NDArray[np.bool_]) -> None:
        """Move every list's place to its first remaining row, or to its end."""
        open_m = np.flatnonzero(self._place_m < self._length_m)
        look = _FIRST_LOOK
        while len(open_m):
            ahead_mL = self._place_m[open_m, None] + np.arange(look)
            inside_mL = ahead_mL < self._length_m[open_m, None]
            remains_mL = remaining_N.take(self._rows_at(open_m, ahead_mL)) & inside_mL
            step_m = remains_mL.argmax(axis=1)
            none_m = ~remains_mL[np.arange(len(open_m)), step_m]
            step_m[none_m] = look
            self._place_m[open_m] = np.minimum(self._place_m[open_m] + step_m, self._length_m[open_m])
            open_m = open_m[none_m & inside_mL[:, -1]]
            look *= 2

    def rivals(self, remaining_N: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Entries that remain and that float32 can't tell from the first remaining one, itself included.

        Returns:
            Test rows and places in their lists, (k,) each; of lists that have at least two such entries.
        """
        each_m = np.arange(len(self._place_m))
        lowest_m = self._key_mW[each_m, self._place_m] - self._margin
        next_m = np.minimum(self._place_m + 1, self.rows_mW.shape[1] - 1)
        has_next_m = (next_m > self._place_m) & (self._key_mW[each_m, next_m] >= lowest_m)
        open_m = np.flatnonzero(has_next_m & ~self._is_ranked_m)
        found: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = []
        start, look = 0, _FIRST_LOOK
        while len(open_m):
            ahead_mL = self._place_m[open_m, None] + np.arange(start, start + look)
            place_mL = np.minimum(ahead_mL, self.rows_mW.shape[1] - 1)
            cell_mL = place_mL + open_m[:, None] * self.rows_mW.shape[1]
            near_mL = (ahead_mL == place_mL) & (self._key_mW.ravel().take(cell_mL) >= lowest_m[open_m, None])
            near_i, near_j = np.nonzero(near_mL & remaining_N.take(self._rows_at(open_m, place_mL)))
            found.append((open_m[near_i], place_mL[near_i, near_j]))
            open_m = open_m[near_mL[:, -1]]
            start, look = start + look, 2 * look
        if not found:
            return each_m[:0], each_m[:0]
        tests_k, places_k = (np.concatenate(parts) for parts in zip(*found, strict=True))
        several_k = np.bincount(tests_k)[tests_k] > 1
        return tests_k[several_k], places_k[several_k]
