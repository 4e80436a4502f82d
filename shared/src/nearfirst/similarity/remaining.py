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
from nearfirst.similarity.blocks import DEFAULT_MEMORY_BUDGET_BYTES, BlockShape, block_shape, spans
from nearfirst.similarity.candidates import CandidateBlock, RowsRead, default_list_length
from nearfirst.similarity.deep_lists import NearestTests, deep_list_length, deep_lists, deep_lists_room
from nearfirst.similarity.embeddings import check_same_dimensions, distinct_rows
from nearfirst.similarity.exact import check_dimensions
from nearfirst.similarity.packed_lists import PackedLists, Rivals, packed
from nearfirst.similarity.pairs import UnitRows, block_similarities, similarities_with, unit_rows
from nearfirst.similarity.screening import default_device, error_bound, full_precision
from nearfirst.similarity.shortlists import RankedRows, Ranking, ScreenedRows, screened_rows
from nearfirst.similarity.workers import in_order, num_workers

_LISTS_PER_WANTED = 4
_LEAST_LENGTH = 32
_LAST_ROWS = 512
"""So few rows remain at the end that all exact keys cost less than lists, full of rivals."""
_BYTES_PER_LAST_KEY = 64
_BYTES_PER_LAST_COMPONENT = 32
"""Of rows: float32, float64 and, in each thread, two parts."""


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
        a list without use, it multiplies with the test rows whose lists are short (`shortlists.screened_rows`). The
        last rows need no lists: all their exact keys are a small matrix. Memory: half of the budget for lists and what
        fills them, and blocks.
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
        self._room_mW: npt.NDArray[np.int64] | None = None
        self.nearest: NearestTests | None = None
        """Every train row's nearest test row, once somebody has asked for `best`; None where that took another way."""
        components = _BYTES_PER_LAST_COMPONENT * train_ND.shape[1] * num_workers(self._device)
        bytes_for_last = _LAST_ROWS * (_BYTES_PER_LAST_KEY * num_test + components)
        self._has_room_for_last = bytes_for_last <= memory_budget_bytes // 2
        self._last: _LastRows | None = None
        self._lists = PackedLists(num_test, 2 * error_bound(train_ND.shape[1]))
        if initial is not None:
            chosen = self._distinct.first
            ranked = RankedRows(initial.rows_MK[chosen], initial.keys_MK[chosen])
            self._put(np.arange(num_test), ranked, initial.length_M[chosen])

    @property
    def num_remaining(self) -> int:
        """Train rows that were not removed."""
        return self._num_remaining

    def remove(self, rows: npt.NDArray[np.int64]) -> None:
        """Take distinct rows, all of them remaining, out of the pool."""
        self._remaining_N[rows] = False
        self._num_remaining -= len(rows)
        if self._last is not None:
            self._last.remove(rows)

    def best(self) -> npt.NDArray[np.int64]:
        """(M,) the best remaining train row of every test row; the pool must not be empty."""
        assert self._num_remaining > 0, "no rows remain"
        if self._last is None and self._are_last():
            self._last = self._last_rows()
        best_m = self._best_in_lists() if self._last is None else self._last.best()
        return best_m[self._distinct.number]

    def _are_last(self) -> bool:
        """Whether what remains is few rows, of many."""
        return self._has_room_for_last and self._num_remaining <= min(_LAST_ROWS, len(self._train_ND) // 2)

    def _last_rows(self) -> "_LastRows":
        """The remaining rows, with their exact keys for all distinct test rows."""
        rows_n = np.flatnonzero(self._remaining_N)
        train = unit_rows(self._train_ND[rows_n])

        def keys(span: slice) -> npt.NDArray[np.float64]:
            some = UnitRows(self._right.single[span], self._right.fixed[span])
            keys_sn: npt.NDArray[np.float64] = block_similarities(some, train, self._device).cpu().numpy()
            return self._sign * keys_sn

        workers = num_workers(self._device)
        parts = in_order(keys, spans(len(self._test_mD), -(-len(self._test_mD) // workers)), workers)
        return _LastRows(rows_n, np.concatenate(list(parts)))

    def _best_in_lists(self) -> npt.NDArray[np.int64]:
        """(m,) the best remaining row of every distinct test row."""
        self._lists.skip_removed(self._remaining_N)
        if not self._lists.num_left().all():
            self._fill()
        best_m = self._lists.first_rows()
        rivals = self._lists.rivals(self._remaining_N)
        if len(rivals.first):
            best_m[rivals.test[rivals.first]] = self._best_of(rivals)
        return best_m

    def _best_of(self, rivals: Rivals) -> npt.NDArray[np.int64]:
        """(r,) each list's row with the highest exact key, the lowest on a tie; keys are computed once."""
        rows_k, key_k = rivals.row, rivals.key
        new = np.flatnonzero(np.isnan(key_k))
        key_k[new] = self._sign * similarities_with(self._right, rivals.test[new], self._train_ND, rows_k[new])
        self._lists.keep_exact(rivals)
        highest_r = np.maximum.reduceat(key_k, rivals.first)
        num_r = np.diff(rivals.first, append=len(key_k))
        is_lower_k = key_k < np.repeat(highest_r, num_r)
        return np.minimum.reduceat(np.where(is_lower_k, len(self._train_ND), rows_k), rivals.first)

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
                self._put(tests_m[some_m], each, ranking.length)

    def _put(
        self, tests_s: npt.NDArray[np.int64], lists: RankedRows | ScreenedRows, length: int | npt.NDArray[np.int64]
    ) -> None:
        """Lists as `shortlists` gives them, of which the first `length` entries can be the best row."""
        is_entry_sW = lists.keys > -np.inf
        entry_sW = packed(np.where(is_entry_sW, lists.keys, 0), lists.rows)
        length_s = np.full(len(tests_s), length)
        self._lists.put(tests_s, entry_sW, is_entry_sW.sum(axis=1), length_s, are_ranked=isinstance(lists, RankedRows))

    def _fill_deep(self) -> None:
        """Give all test rows new long lists, where one block can hold all of them."""
        num_test = len(self._test_mD)
        shape = self._block_shape(num_test)
        if shape.test < num_test:
            self._is_deep = False
            return
        tests_m = np.arange(num_test)
        ranking = self._ranking(tests_m, self._deep_length)
        if self._room_mW is None:
            self._room_mW = deep_lists_room(num_test, self._num_remaining, self._deep_length)
        with_nearest = self._with_nearest and self._num_remaining == len(self._train_ND)
        reading = RowsRead(self._num_remaining, self._progress)
        with full_precision():
            found = deep_lists(ranking, self._room_mW, shape, reading.add, with_nearest=with_nearest)
        self._lists.put(tests_m, self._room_mW, found.num_entries, found.length)
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


class _LastRows:
    """The exact keys of the n rows that remain at the end; those of rows that are removed turn into -inf."""

    def __init__(self, rows_n: npt.NDArray[np.int64], keys_mn: npt.NDArray[np.float64]) -> None:
        self._rows_n = rows_n
        self._keys_mn = keys_mn

    def best(self) -> npt.NDArray[np.int64]:
        """(m,) rows with the highest keys; rows are ascending and the first of the highest is taken, so the lowest."""
        best_m: npt.NDArray[np.int64] = self._rows_n[self._keys_mn.argmax(axis=1)]
        return best_m

    def remove(self, rows: npt.NDArray[np.int64]) -> None:
        """Distinct rows of the n."""
        self._keys_mn[:, np.searchsorted(self._rows_n, rows)] = -np.inf
