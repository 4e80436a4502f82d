"""Long lists of each test row's nearest (or farthest) train rows, for somebody who will walk down all of them.

One blocked pass of float32 products keeps, for every test row, all train rows whose key is at least a floor, and sorts
them by key. The floor is a sample's guess at the K-th best key: a list is as long as it turns out, and complete down to
its floor. That costs less than keeping exactly the K best, and lists of thousands of rows need few fillings. On the way
the same products tell which test row is the nearest of each train row.

A key and a place among the rows are packed into an int64 that sorts by descending key.

Shapes: m test rows, n train rows, B of them in a block, W entries of a list, k cells.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nearfirst.similarity.blocks import BlockShape, spans
from nearfirst.similarity.nearest import best_of_cells
from nearfirst.similarity.pairs import UnitRows, unit_rows
from nearfirst.similarity.screening import as_tensor, error_bound, products
from nearfirst.similarity.shortlists import Ranking, ScreenedRows
from nearfirst.similarity.workers import in_order, num_workers

_MAX_LENGTH = 3072
"""Longer lists cost more to sort than they save in fillings, on real data with 1,000 test rows."""
_ROOM = 2
"""Room of a list over its wanted length: samples err."""
_BYTES_PER_WANTED = 28 * _ROOM
"""A packed entry, its row and key, and the exact key that the reader of the lists keeps beside it."""
_LEAST_SHARE = 4
"""A list shorter than this part of what was wanted is of no use."""
_SAMPLE = 512
_TESTS_AT_A_TIME = 32
_FOLDS = 16
_EMPTY = np.iinfo(np.int64).max
_PLACE_BITS = 32


@dataclass(frozen=True, slots=True)
class NearestTests:
    """Of each of n train rows, (n,): the similarity to its nearest test row, and that row, the first on a tie."""

    similarity: npt.NDArray[np.float64]
    test: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class DeepLists:
    """Lists of all m test rows."""

    lists: ScreenedRows
    """(m, W): all rows whose keys are at least a list's floor."""
    length: npt.NDArray[np.int64]
    """(m,) entries that rows outside of the list cannot beat; 0: the list is of no use, its floor was a bad guess."""
    nearest: NearestTests | None
    """Where it was asked for."""


def deep_list_length(num_test: int, memory_budget_bytes: int) -> int:
    """K: what half of the budget can hold, and no longer than pays."""
    return max(1, min(_MAX_LENGTH, memory_budget_bytes // 2 // (_BYTES_PER_WANTED * num_test)))


def deep_lists(
    ranking: Ranking, shape: BlockShape, progress: Callable[[int], None], *, with_nearest: bool = False
) -> DeepLists:
    """About the K best rows of each test row, all n of them where n is little more.

    Args:
        ranking: what to rank, on the processor; `length` is K, a wish.
        shape: the block to work on at a time; all m test rows are in one block. Changes which lists are complete, and
            no order.
        progress: called with the number of rows that were read since the last call.
        with_nearest: whether to find every train row's nearest test row too; the nearest rows are ranked then.
    """
    room = min(ranking.num_rows, _ROOM * ranking.length)
    packed = _PackedLists(room, _sampled_floors(ranking, room))
    nearest = _NearestTests(ranking) if with_nearest else None
    test_mD = as_tensor(ranking.test, ranking.device) * ranking.sign

    def read(span: slice) -> int:
        train_BD = ranking.train_rows(span)
        keys_mB = products(test_mD, as_tensor(train_BD, ranking.device)).numpy()
        packed.add(keys_mB, span.start)
        if nearest is not None:
            nearest.add(keys_mB, train_BD, span)
        return len(train_BD)

    workers = num_workers(ranking.device)
    for num_read in in_order(read, spans(ranking.num_rows, shape.train), workers):
        progress(num_read)
    found = packed.by_key(ranking, workers)
    bound = error_bound(ranking.test.shape[1])
    num_sure_m = packed.num_sure(found.keys, bound, ranking.length // _LEAST_SHARE)
    return DeepLists(found, num_sure_m, nearest.found if nearest else None)


def _sampled_floors(ranking: Ranking, room: int) -> npt.NDArray[np.float32]:
    """(m,) keys that about K rows reach, judged by a part of the rows; -inf where lists have room for all."""
    if room == ranking.num_rows:
        return np.full(len(ranking.test), -np.inf, dtype=np.float32)
    num_sampled = min(ranking.num_rows, _SAMPLE)
    places = np.arange(num_sampled) * ranking.num_rows // num_sampled
    sample = as_tensor(ranking.train[ranking.rows_at(places)], ranking.device)
    keys_mB = products(as_tensor(ranking.test, ranking.device) * ranking.sign, sample).numpy()
    rank = -(-ranking.length * num_sampled // ranking.num_rows)
    floors: npt.NDArray[np.float32] = np.partition(keys_mB, num_sampled - rank, axis=1)[:, num_sampled - rank]
    return floors


class _PackedLists:
    """What was collected for each test row, in no order; blocks may be added by several threads."""

    def __init__(self, room: int, floor_m: npt.NDArray[np.float32]) -> None:
        self._floor_m = floor_m
        self._packed_mW = np.empty((len(floor_m), room), dtype=np.int64)
        self._num_collected_m = np.zeros(len(floor_m), dtype=np.int64)
        self._lock = threading.Lock()

    def add(self, keys_mB: npt.NDArray[np.float32], first_place: int) -> None:
        """Take in the keys of consecutive places; what a list has no room for is only counted."""
        num_tests, num_rows = keys_mB.shape
        cell_k = np.flatnonzero(keys_mB >= self._floor_m[:, None])
        packed_k = _packed(keys_mB.ravel()[cell_k])
        end_m = np.searchsorted(cell_k, np.arange(1, num_tests + 1) * num_rows)
        added_m = np.diff(end_m, prepend=0)
        with self._lock:
            before_m = self._num_collected_m.copy()
            self._num_collected_m += added_m
        room = self._packed_mW.shape[1]
        each_m = np.arange(num_tests)
        packed_k += cell_k
        packed_k -= np.repeat(each_m * num_rows - first_place, added_m)
        target_k = np.arange(len(cell_k))
        target_k += np.repeat(each_m * room + before_m - (end_m - added_m), added_m)
        over_m = before_m + added_m > room
        if over_m.any():
            fits_k = np.repeat(~over_m, added_m)
            target_k, packed_k = target_k[fits_k], packed_k[fits_k]
        self._packed_mW.ravel()[target_k] = packed_k

    def by_key(self, ranking: Ranking, workers: int) -> ScreenedRows:
        """The lists by descending key; those that had too little room are empty."""
        num_m = np.where(self._num_collected_m > self._packed_mW.shape[1], 0, self._num_collected_m)
        width = max(1, int(num_m.max()))
        rows_mW = np.empty((len(num_m), width), dtype=np.int64)
        key_mW = np.empty((len(num_m), width), dtype=np.float32)

        def finish(span: slice) -> None:
            packed_sW = self._packed_mW[span, :width]
            missing_sW = np.arange(width) >= num_m[span, None]
            packed_sW[missing_sW] = _EMPTY
            packed_sW.sort(axis=1)
            rows_sW, key_sW = rows_mW[span], key_mW[span]
            np.bitwise_and(packed_sW, (1 << _PLACE_BITS) - 1, out=rows_sW)
            rows_sW[missing_sW] = 0
            rows_sW[...] = ranking.rows_at(rows_sW)
            key_sW[...] = _unpacked(packed_sW)
            key_sW[missing_sW] = -np.inf

        for _ in in_order(finish, spans(len(num_m), _TESTS_AT_A_TIME), workers):
            pass
        return ScreenedRows(rows_mW, key_mW)

    def num_sure(self, key_mW: npt.NDArray[np.float32], bound: float, least: int) -> npt.NDArray[np.int64]:
        """(m,) entries above the floor by more than twice the bound: no row outside the list is as good.

        0 where they are fewer than `least`: somebody who keeps exactly the best K is quicker on such rows.
        """
        sure_m: npt.NDArray[np.int64] = (key_mW > (self._floor_m + np.float32(2 * bound))[:, None]).sum(axis=1)
        sure_m[sure_m < least] = 0
        return sure_m


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


def _packed(key_k: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Integers that sort by descending key, with the low 32 bits free.

    The bits of a float32, taken as an integer, are in its order where the sign bit is clear; where it is set, the
    others have to be flipped.
    """
    bits_k = key_k.view(np.int32)
    bits_k ^= (bits_k >> 31) & 0x7FFFFFFF
    return (~bits_k).astype(np.int64) << _PLACE_BITS


def _unpacked(packed: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """The keys of `_packed`."""
    bits = ~(packed >> _PLACE_BITS).astype(np.int32)
    bits ^= (bits >> 31) & 0x7FFFFFFF
    return bits.view(np.float32)
