"""Long lists of each test row's nearest (or farthest) train rows, for somebody who will walk down all of them.

One blocked pass of float32 products keeps, for every test row, all train rows whose key is at least a floor, and sorts
them by key. The floor is a sample's guess at the K-th best key: a list is as long as it turns out, and complete down to
its floor. That costs less than keeping exactly the K best, and lists of thousands of rows need few fillings. On the way
the same products tell which test row is the nearest of each train row.

Shapes: m test rows, n train rows, B of them in a block, W entries of a list, k cells.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nearfirst.similarity.blocks import BlockShape, spans
from nearfirst.similarity.nearest import best_of_cells
from nearfirst.similarity.packed_lists import END, margin_of, packed
from nearfirst.similarity.pairs import UnitRows, unit_rows
from nearfirst.similarity.screening import as_tensor, error_bound, products
from nearfirst.similarity.shortlists import Ranking
from nearfirst.similarity.workers import in_order, num_workers

_MAX_LENGTH = 3072
"""Longer lists cost more to collect than they save in fillings, on real data with 1,000 test rows."""
_ROOM = 2
"""Room of a list over its wanted length: samples err."""
_BYTES_PER_WANTED = 8 * _ROOM
"""A packed entry."""
_LEAST_SHARE = 4
"""A list shorter than this part of what was wanted is of no use."""
_SAMPLE = 512
_TESTS_AT_A_TIME = 64
_FOLDS = 16
_MAX_CELLS = 2**19
"""Products in a block: collecting reads them several times, from the processor's caches."""


@dataclass(frozen=True, slots=True)
class NearestTests:
    """Of each of n train rows, (n,): the similarity to its nearest test row, and that row, the first on a tie."""

    similarity: npt.NDArray[np.float64]
    test: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class DeepLists:
    """What `deep_lists` has written, and found on the way."""

    num_entries: npt.NDArray[np.int64]
    """(m,) entries of each list: all rows whose keys are at least its floor."""
    length: npt.NDArray[np.int64]
    """(m,) entries that rows outside of the list cannot beat; 0: the list is of no use, its floor was a bad guess."""
    nearest: NearestTests | None
    """Where it was asked for."""


def deep_list_length(num_test: int, memory_budget_bytes: int) -> int:
    """K: what half of the budget can hold, and no longer than pays."""
    return max(1, min(_MAX_LENGTH, memory_budget_bytes // 2 // (_BYTES_PER_WANTED * num_test)))


def deep_lists_room(num_test: int, num_train: int, length: int) -> npt.NDArray[np.int64]:
    """Where `deep_lists` can write lists of about `length` of `num_train` rows."""
    return np.empty((num_test, min(num_train, _ROOM * length)), dtype=np.int64)


def deep_lists(
    ranking: Ranking,
    entry_mW: npt.NDArray[np.int64],
    shape: BlockShape,
    progress: Callable[[int], None],
    *,
    with_nearest: bool = False,
) -> DeepLists:
    """About the K best rows of each test row, all n of them where n is little more.

    Args:
        ranking: what to rank, on the processor; `length` is K, a wish.
        entry_mW: where to write the lists: `packed`, best first; what is behind them means nothing. W is what
            `deep_lists_room` says of K.
        shape: the block to work on at a time; all m test rows are in one block. Changes which lists are complete, and
            no order.
        progress: called with the number of rows that were read since the last call.
        with_nearest: whether to find every train row's nearest test row too; the nearest rows are ranked then.
    """
    workers = num_workers(ranking.device)
    collected = _Collected(entry_mW, _sampled_floors(ranking, entry_mW.shape[1], workers))
    nearest = _NearestTests(ranking) if with_nearest else None
    test_mD = as_tensor(ranking.test * np.float32(ranking.sign), ranking.device)

    def read(span: slice) -> int:
        train_BD = ranking.train_rows(span)
        keys_mB = products(test_mD, as_tensor(train_BD, ranking.device)).numpy()
        collected.add(keys_mB, ranking, span)
        if nearest is not None:
            nearest.add(keys_mB, train_BD, span)
        return len(train_BD)

    step = max(1, min(shape.train, _MAX_CELLS // len(ranking.test)))
    for num_read in in_order(read, spans(ranking.num_rows, step), workers):
        progress(num_read)
    num_sure_m = collected.sort(margin_of(2 * error_bound(ranking.test.shape[1])), workers)
    num_sure_m[num_sure_m < ranking.length // _LEAST_SHARE] = 0
    return DeepLists(collected.num_collected_m, num_sure_m, nearest.found if nearest else None)


def _sampled_floors(ranking: Ranking, room: int, workers: int) -> npt.NDArray[np.float32]:
    """(m,) keys that about K rows reach, judged by a part of the rows; -inf where lists have room for all."""
    floor_m = np.full(len(ranking.test), -np.inf, dtype=np.float32)
    if room >= ranking.num_rows:
        return floor_m
    num_sampled = min(ranking.num_rows, _SAMPLE)
    places = np.arange(num_sampled) * ranking.num_rows // num_sampled
    sample = as_tensor(ranking.train[ranking.rows_at(places)], ranking.device)
    below = num_sampled - -(-ranking.length * num_sampled // ranking.num_rows)
    signed_mD = ranking.test * np.float32(ranking.sign)

    def judge(span: slice) -> None:
        keys_sP = products(as_tensor(signed_mD[span], ranking.device), sample).numpy()
        floor_m[span] = np.partition(keys_sP, below, axis=1)[:, below]

    for _ in in_order(judge, spans(len(floor_m), _TESTS_AT_A_TIME), workers):
        pass
    return floor_m


class _Collected:
    """What was collected for each test row, in no order; blocks may be added by several threads."""

    def __init__(self, entry_mW: npt.NDArray[np.int64], floor_m: npt.NDArray[np.float32]) -> None:
        self._floor_m = floor_m
        self._entry_mW = entry_mW
        self.num_collected_m = np.zeros(len(floor_m), dtype=np.int64)
        self._lock = threading.Lock()

    def add(self, keys_mB: npt.NDArray[np.float32], ranking: Ranking, span: slice) -> None:
        """Take in the keys of some places among the rows; what a list has no room for is only counted."""
        num_tests, num_rows = keys_mB.shape
        cell_k = np.flatnonzero(keys_mB >= self._floor_m[:, None])
        end_m = np.searchsorted(cell_k, np.arange(1, num_tests + 1) * num_rows)
        added_m = np.diff(end_m, prepend=0)
        with self._lock:
            before_m = self.num_collected_m.copy()
            self.num_collected_m += added_m
        key_k = keys_mB.ravel().take(cell_k)
        room = self._entry_mW.shape[1]
        each_m = np.arange(num_tests)
        target_k = np.arange(len(cell_k))
        target_k += np.repeat(each_m * room + before_m - (end_m - added_m), added_m)
        cell_k -= np.repeat(each_m * num_rows - span.start, added_m)
        entry_k = packed(key_k, ranking.rows_at(cell_k))
        over_m = before_m + added_m > room
        if over_m.any():
            fits_k = np.repeat(~over_m, added_m)
            target_k, entry_k = target_k[fits_k], entry_k[fits_k]
        self._entry_mW.ravel()[target_k] = entry_k

    def sort(self, margin: int, workers: int) -> npt.NDArray[np.int64]:
        """Put the lists in the order of descending keys, and empty those that had too little room.

        Returns:
            (m,) entries above a list's floor by more than the margin: no row outside of the list is as good.
        """
        num_m = self.num_collected_m
        num_m[num_m > self._entry_mW.shape[1]] = 0
        has_all_m = np.isneginf(self._floor_m)
        sure_m = packed(np.where(has_all_m, np.float32(0), self._floor_m), np.zeros_like(num_m)) - margin
        sure_m[has_all_m] = END
        num_sure_m = np.empty_like(num_m)

        def finish(span: slice) -> None:
            width = num_m[span].max(initial=0)
            entry_sW = self._entry_mW[span, :width]
            entry_sW[np.arange(width) >= num_m[span, None]] = END
            entry_sW.sort(axis=1)
            num_sure_m[span] = np.count_nonzero(entry_sW < sure_m[span, None], axis=1)

        for _ in in_order(finish, spans(len(num_m), _TESTS_AT_A_TIME), workers):
            pass
        return num_sure_m


class _NearestTests:
    """The nearest test row of each train row, block by block; blocks write to places of their own."""

    def __init__(self, ranking: Ranking) -> None:
        self._right: UnitRows = unit_rows(ranking.test)
        self._device = ranking.device
        self._margin = np.float32(2 * error_bound(ranking.test.shape[1]))
        self.found = NearestTests(np.empty(ranking.num_rows), np.empty(ranking.num_rows, dtype=np.int64))

    def add(self, keys_mB: npt.NDArray[np.float32], train_BD: npt.NDArray[np.float32], span: slice) -> None:
        """Take in the keys of a block of all test rows."""
        tests_k, rows_k = _cells_near_maximum(keys_mB, self._margin)
        best = best_of_cells(rows_k, tests_k, 1.0, unit_rows(train_BD), self._right, self._device)
        self.found.similarity[span], self.found.test[span] = best.similarity, best.column


def _cells_near_maximum(
    keys_mB: npt.NDArray[np.float32], margin: np.float32
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Cells within `margin` of their column's largest key, looked for only in sets of rows whose largest key is.

    With F sets a fold, the rows of a set are g, g + G, ...: maxima of sets are those of long vectors.
    """
    num_sets = -(-len(keys_mB) // _FOLDS)
    folded = len(keys_mB) // num_sets * num_sets
    head_FGB = keys_mB[:folded].reshape(-1, num_sets, keys_mB.shape[1])
    maxima_GB = head_FGB.max(axis=0)
    np.maximum(maxima_GB[: len(keys_mB) - folded], keys_mB[folded:], out=maxima_GB[: len(keys_mB) - folded])
    floor_B = maxima_GB.max(axis=0) - margin
    set_h, row_h = np.divmod(np.flatnonzero(maxima_GB >= floor_B), keys_mB.shape[1])
    member_hF = set_h[:, None] + np.arange(0, len(keys_mB), num_sets)
    cell_hF = np.minimum(member_hF, len(keys_mB) - 1) * keys_mB.shape[1] + row_h[:, None]
    is_near_hF = (keys_mB.ravel().take(cell_hF) >= floor_B[row_h, None]) & (member_hF < len(keys_mB))
    hit_k, fold_k = np.nonzero(is_near_hF)
    return member_hF[hit_k, fold_k], row_h[hit_k]
