"""Each test row's nearest (or farthest) train rows, found with float32 products and put in order exactly.

One blocked pass over the train rows collects, for every test row, the rows whose float32 key is above a floor. The
floor is the K-th best key so far minus twice the error bound (`screening.py`), so no row of the exact best K is ever
left out. What is collected is then put in order by exact similarities: all of it (`best_rows`), or later and only where
somebody looks (`screened_rows`).

Shapes: m test rows, K rows wanted for each, W collected; n train rows, B of them in a block, k cells.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nearfirst.similarity.blocks import BlockShape, spans
from nearfirst.similarity.pairs import block_similarities, similarities_of_pairs, unit_rows
from nearfirst.similarity.screening import Cells, FoldedKeys, as_tensor, error_bound, products
from nearfirst.similarity.workers import in_order, num_workers

_ROOM = 3
"""Rows collected for a test row, over those wanted, before the worst are thrown out."""
_LEAST_ROOM = 64
_SAMPLED_SHARE = 16

BYTES_PER_CANDIDATE = 20 * _ROOM + 16
"""What a test row and a wanted row take: float32 key, row and exact key of all that is collected; a result."""


class RankedRows(NamedTuple):
    """Best first, (m, K) each."""

    rows: npt.NDArray[np.int64]
    """Train rows; of equal keys the lower first."""
    keys: npt.NDArray[np.float64]
    """Exact similarity, or minus it when the farthest are wanted."""


class ScreenedRows(NamedTuple):
    """Best first by float32 keys, (m, W) each: the K best of every test row, and whatever can't be told from the K-th.

    Rows that aren't listed have keys lower than the K-th by more than twice the error bound.
    """

    rows: npt.NDArray[np.int64]
    keys: npt.NDArray[np.float32]
    """Within the error bound of the similarity (farthest: minus it); -inf behind a list's end."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """What to rank, and for whom."""

    train: npt.NDArray[np.float32]
    """(N, D) unit rows; may be memory-mapped."""
    rows: slice | npt.NDArray[np.int64]
    """The n rows that take part, ascending."""
    num_rows: int
    """n, at least 1."""
    test: npt.NDArray[np.float32]
    """(m, D) distinct unit rows."""
    length: int
    """K, from 1 to n."""
    sign: float
    """1: nearest first, -1: farthest first."""
    device: torch.device

    def rows_at(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Row numbers of places among the n."""
        return places + self.rows.start if isinstance(self.rows, slice) else self.rows[places]

    def train_rows(self, span: slice) -> npt.NDArray[np.float32]:
        """(B, D) the rows at some places among the n."""
        if isinstance(self.rows, slice):
            return self.train[self.rows.start + span.start : self.rows.start + span.stop]
        return self.train[self.rows[span]]


def best_rows(ranking: Ranking, shape: BlockShape, progress: Callable[[int], None]) -> RankedRows:
    """The best K train rows of each test row, exactly.

    Args:
        ranking: what to rank.
        shape: the block to work on at a time. Changes no result.
        progress: called with the number of rows that were read since the last call.

    Notes:
        Time: one float32 product of shape m x n x D, and exact similarities of about m K pairs. A test row that has
        more rows within the bound of its K-th best than there is room for is multiplied exactly with all rows.
        Memory: `BYTES_PER_CANDIDATE` m K and a block.
    """
    num_test = len(ranking.test)
    found = RankedRows(np.empty((num_test, ranking.length), np.int64), np.empty((num_test, ranking.length)))
    for tests_m, each in _shortlists(ranking, shape, progress):
        part = replace(ranking, test=ranking.test[tests_m])
        found.rows[tests_m], found.keys[tests_m] = each if isinstance(each, RankedRows) else _in_exact_order(part, each)
    return found


def screened_rows(
    ranking: Ranking, shape: BlockShape, progress: Callable[[int], None]
) -> Iterator[tuple[npt.NDArray[np.int64], RankedRows | ScreenedRows]]:
    """As `best_rows`, for somebody who will look at few of the rows: left in the order of their float32 keys.

    Yields:
        Test rows, and their lists; each test row once. Those with too many rows within the bound come ranked.
    """
    return _shortlists(ranking, shape, progress)


def _shortlists(
    ranking: Ranking, shape: BlockShape, progress: Callable[[int], None]
) -> Iterator[tuple[npt.NDArray[np.int64], RankedRows | ScreenedRows]]:
    for span in spans(len(ranking.test), shape.test):
        open_m = np.arange(span.start, span.stop)
        floor_m = _sampled_floors(replace(ranking, test=ranking.test[open_m]), shape.train)
        while len(open_m):
            these = replace(ranking, test=ranking.test[open_m])
            lists = Shortlists(len(open_m), ranking.length, error_bound(ranking.test.shape[1]), floor_m)
            _collect(these, lists, shape.train, progress)
            complete_m, screened = lists.best_first()
            if len(complete_m):
                yield open_m[complete_m], screened
            crowded_m = np.flatnonzero(lists.is_crowded)
            if len(crowded_m):
                crowd = replace(these, test=these.test[crowded_m])
                yield open_m[crowded_m], _multiplied_exactly(crowd, shape.train, progress)
            # The sample promised the others more than there is: once more, without a floor.
            open_m = np.delete(open_m, np.concatenate([complete_m, crowded_m]))
            floor_m = np.full(len(open_m), -np.inf, dtype=np.float32)


def _sampled_floors(ranking: Ranking, step: int) -> npt.NDArray[np.float32]:
    """(m,) keys that somewhat more than K rows are likely to reach, judged by a part of the rows; changes no result."""
    none = np.full(len(ranking.test), -np.inf, dtype=np.float32)
    num_sampled = min(step, ranking.num_rows // _SAMPLED_SHARE)
    expected = ranking.length * num_sampled / ranking.num_rows
    rank = int(1.5 * expected + 4 * expected**0.5 + 4)
    if rank > num_sampled // 2:
        return none
    places = np.arange(num_sampled) * ranking.num_rows // num_sampled
    sample = as_tensor(ranking.train[ranking.rows_at(places)], ranking.device)
    keys_mB = products(as_tensor(ranking.test, ranking.device) * ranking.sign, sample)
    floors: npt.NDArray[np.float32] = keys_mB.topk(rank, dim=1).values[:, -1].cpu().numpy()
    return floors


def _collect(ranking: Ranking, lists: "Shortlists", step: int, progress: Callable[[int], None]) -> None:
    """One pass over the train rows."""
    test_mD = as_tensor(ranking.test, ranking.device) * ranking.sign

    def find(span: slice) -> tuple[slice, Cells, Tensor]:
        train_BD = as_tensor(ranking.train_rows(span), ranking.device)
        keys_mB = products(test_mD, train_BD)
        # Floors may rise meanwhile: then some cells more than needed are found.
        cells = FoldedKeys(keys_mB).cells_at_least(torch.from_numpy(lists.floor_m).to(ranking.device))
        return span, cells, keys_mB[cells.p, cells.q]

    for span, cells, key_k in in_order(find, spans(ranking.num_rows, step), num_workers(ranking.device)):
        rows_k = ranking.rows_at(cells.q.cpu().numpy() + span.start)
        lists.add(cells.p.cpu().numpy(), rows_k, key_k.cpu().numpy())
        progress(span.stop - span.start)


class Shortlists:
    """The best rows of each test row so far, by float32 keys, in no order."""

    def __init__(self, num_test: int, length: int, bound: float, floor_m: npt.NDArray[np.float32]) -> None:
        self.floor_m = floor_m
        """(m,) keys below it aren't wanted any more."""
        self.is_crowded = np.zeros(num_test, dtype=np.bool_)
        """(m,) more rows than there is room for are within the bound of the K-th best: given up."""
        self.num_collected = np.zeros(num_test, dtype=np.int64)
        self._length = length
        self._margin = np.float32(2 * bound)
        room = max(_ROOM * length, length + _LEAST_ROOM)
        self._key_mW = np.full((num_test, room), -np.inf, dtype=np.float32)
        self._row_mW = np.zeros((num_test, room), dtype=np.int64)

    def add(
        self, tests_k: npt.NDArray[np.int64], rows_k: npt.NDArray[np.int64], key_k: npt.NDArray[np.float32]
    ) -> None:
        """Take in cells in ascending order of `tests_k`."""
        added_m = np.bincount(tests_k, minlength=len(self.floor_m))
        place_k = np.arange(len(tests_k)) + np.repeat(self.num_collected - (np.cumsum(added_m) - added_m), added_m)
        overflows_m = self.num_collected + added_m > self._key_mW.shape[1]
        if overflows_m.any():
            over_k = overflows_m[tests_k]
            over = np.flatnonzero(overflows_m)
            self._cut_down(over, tests_k[over_k], place_k[over_k], rows_k[over_k], key_k[over_k])
            tests_k, place_k, rows_k, key_k = tests_k[~over_k], place_k[~over_k], rows_k[~over_k], key_k[~over_k]
            added_m[overflows_m] = 0
        self._key_mW[tests_k, place_k] = key_k
        self._row_mW[tests_k, place_k] = rows_k
        self.num_collected += added_m

    def best_first(self) -> tuple[npt.NDArray[np.int64], ScreenedRows]:
        """Test rows whose list has all rows that can be among their best K, and these lists."""
        key_mW, row_mW = _sorted_by_key(self._key_mW, self._row_mW)
        floor_m = key_mW[:, self._length - 1] - self._margin
        # -inf: fewer than K were collected. A floor that lies higher has kept out what can be among the best K.
        complete_m = np.flatnonzero((floor_m > -np.inf) & (floor_m >= self.floor_m))
        key_mW, row_mW, floor_m = key_mW[complete_m], row_mW[complete_m], floor_m[complete_m]
        key_mW[key_mW < floor_m[:, None]] = -np.inf
        width = int((key_mW > -np.inf).sum(axis=1).max(initial=0))
        return complete_m, ScreenedRows(row_mW[:, :width], key_mW[:, :width])

    def _cut_down(
        self,
        tests_m: npt.NDArray[np.int64],
        tests_k: npt.NDArray[np.int64],
        place_k: npt.NDArray[np.int64],
        rows_k: npt.NDArray[np.int64],
        key_k: npt.NDArray[np.float32],
    ) -> None:
        """Raise the floor of `tests_m` to what their best K are sure to reach, counting the new cells."""
        room = self._key_mW.shape[1]
        key_mW = np.full((len(tests_m), int(place_k.max()) + 1), -np.inf, dtype=np.float32)
        row_mW = np.zeros(key_mW.shape, dtype=np.int64)
        key_mW[:, :room], row_mW[:, :room] = self._key_mW[tests_m], self._row_mW[tests_m]
        number_k = np.searchsorted(tests_m, tests_k)
        key_mW[number_k, place_k], row_mW[number_k, place_k] = key_k, rows_k
        key_mW, row_mW = _sorted_by_key(key_mW, row_mW)
        floor_m = np.maximum(key_mW[:, self._length - 1] - self._margin, self.floor_m[tests_m])
        num_kept_m = (key_mW >= floor_m[:, None]).sum(axis=1)
        crowded_m = num_kept_m > room
        key_mW[key_mW < floor_m[:, None]] = -np.inf
        self._key_mW[tests_m], self._row_mW[tests_m] = key_mW[:, :room], row_mW[:, :room]
        self.floor_m[tests_m] = np.where(crowded_m, np.inf, floor_m)
        self.num_collected[tests_m] = np.where(crowded_m, 0, num_kept_m)
        self.is_crowded[tests_m] = crowded_m


def _sorted_by_key(
    key_mW: npt.NDArray[np.float32], row_mW: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Each row by descending key."""
    by_key_mW = np.argsort(-key_mW, axis=1)
    return np.take_along_axis(key_mW, by_key_mW, axis=1), np.take_along_axis(row_mW, by_key_mW, axis=1)


def _in_exact_order(ranking: Ranking, screened: ScreenedRows) -> RankedRows:
    """The first K of shortlists of all test rows."""
    listed_mW = screened.keys > -np.inf
    key_mW = np.full(listed_mW.shape, -np.inf)
    tests_k, rows_k = np.nonzero(listed_mW)[0], screened.rows[listed_mW]
    key_mW[listed_mW] = ranking.sign * similarities_of_pairs(ranking.train, rows_k, ranking.test, tests_k)
    by_key_mK = np.lexsort((screened.rows, -key_mW), axis=1)[:, : ranking.length]
    return RankedRows(
        np.take_along_axis(screened.rows, by_key_mK, axis=1), np.take_along_axis(key_mW, by_key_mK, axis=1)
    )


def _multiplied_exactly(ranking: Ranking, step: int, progress: Callable[[int], None]) -> RankedRows:
    """The best K by the exact products of all pairs."""
    test = unit_rows(ranking.test)
    keys_mK = np.empty((len(ranking.test), 0))
    rows_mK = np.empty((len(ranking.test), 0), dtype=np.int64)
    for span in spans(ranking.num_rows, step):
        train = unit_rows(ranking.train_rows(span))
        keys_mB = ranking.sign * block_similarities(test, train, ranking.device).cpu().numpy()
        rows_B = ranking.rows_at(np.arange(span.start, span.stop))
        keys_mK, rows_mK = _keep_best(keys_mK, rows_mK, keys_mB, rows_B, ranking.length)
        progress(0)
    # Columns are in ascending row order, so a stable sort leaves ties with the lower row first.
    by_key_mK = np.argsort(-keys_mK, axis=1, kind="stable")
    return RankedRows(np.take_along_axis(rows_mK, by_key_mK, axis=1), np.take_along_axis(keys_mK, by_key_mK, axis=1))


def _keep_best(
    keys_mK: npt.NDArray[np.float64],
    rows_mK: npt.NDArray[np.int64],
    keys_mB: npt.NDArray[np.float64],
    rows_B: npt.NDArray[np.int64],
    length: int,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """The `length` highest keys of each test row among those kept so far and a new block.

    Columns are in ascending row order before and after; `rows_B` are above all kept rows. Of equal keys the lower rows
    stay.
    """
    all_keys = np.concatenate([keys_mK, keys_mB], axis=1)
    all_rows = np.concatenate([rows_mK, np.broadcast_to(rows_B, keys_mB.shape)], axis=1)
    surplus = all_keys.shape[1] - length
    if surplus <= 0:
        return all_keys, all_rows
    last_m1 = np.partition(all_keys, surplus, axis=1)[:, surplus, None]
    keep = all_keys >= last_m1
    crowded_c = np.flatnonzero(keep.sum(axis=1) > length)
    if len(crowded_c):
        tied = all_keys[crowded_c] == last_m1[crowded_c]
        num_above_c1 = (keep[crowded_c] & ~tied).sum(axis=1, keepdims=True)
        keep[crowded_c] &= ~tied | (np.cumsum(tied, axis=1) <= length - num_above_c1)
    shape = (len(all_keys), length)
    return all_keys[keep].reshape(shape), all_rows[keep].reshape(shape)
