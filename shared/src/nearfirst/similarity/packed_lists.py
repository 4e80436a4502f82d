"""Lists of train rows, one for each of m test rows, best first, and how far each has been walked down.

A float32 key and a row are packed into one int64, so that sorting integers puts rows in the order of descending keys,
and a walk reads one array. The key is in fixed point there, minus its multiple of 2^-30: no coarser than float32
beyond 2^-6 from zero, and nowhere by more than one such multiple, which `margin_of` counts in.

Shapes: m test rows, W entries of a list, L entries that are looked at together, k entries found.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

END = np.iinfo(np.int64).max
"""Behind a list's last entry: sorts behind, and is within no margin of, any key."""
_ROW_BITS = 32
_ROW_MASK = (1 << _ROW_BITS) - 1
_FRACTION_BITS = 30
_FIRST_LOOK = 16
"""Entries of a list that are looked at together; twice as many each time they are not enough."""


def packed(
    keys: npt.NDArray[np.float32] | npt.NDArray[np.float64], rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Integers that sort by descending key, up to a multiple of 2^-30, then by ascending row. Keys are finite."""
    entries = (keys * keys.dtype.type(-(2.0**_FRACTION_BITS))).astype(np.int64)
    entries <<= _ROW_BITS
    entries |= rows
    return entries


def rows_of(entries: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The rows of `packed`; of `END` any number."""
    return entries & _ROW_MASK


def margin_of(distance: float) -> int:
    """What to add to an entry: those beyond the sum have keys lower by more than `distance`, whatever their rows."""
    return (math.ceil(distance * 2.0**_FRACTION_BITS) + 2) << _ROW_BITS


class Rivals(NamedTuple):
    """Entries of some lists, (k,) each, a list's behind each other."""

    cell: npt.NDArray[np.int64]
    """Their places in the array of all lists."""
    test: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]
    key: npt.NDArray[np.float64]
    """Exact; NaN where it isn't known yet."""
    first: npt.NDArray[np.int64]
    """(r,) where each list's entries begin, of the k."""


class PackedLists:
    """A list for each of m test rows: screened (in the order of float32 keys) or ranked (in exact order).

    Args:
        num_test: m. All lists are empty at first.
        distance: float32 keys further from each other than this are in the order of their similarities.
    """

    def __init__(self, num_test: int, distance: float) -> None:
        self._margin = margin_of(distance)
        self.entry_mW = np.zeros((num_test, 1), dtype=np.int64)
        self._known_cell_k = np.zeros(1, dtype=np.int64)
        self._known_key_k = np.full(1, np.nan)
        """Exact keys of the last rivals, by cell; at least one."""
        self._num_entries_m = np.zeros(num_test, dtype=np.int64)
        self._place_m = np.zeros(num_test, dtype=np.int64)
        self._length_m = np.zeros(num_test, dtype=np.int64)
        self._is_ranked_m = np.zeros(num_test, dtype=np.bool_)

    def put(
        self,
        tests_s: npt.NDArray[np.int64],
        entry_sW: npt.NDArray[np.int64],
        num_entries_s: npt.NDArray[np.int64],
        length_s: npt.NDArray[np.int64],
        *,
        are_ranked: bool = False,
    ) -> None:
        """Replace lists; the array is kept where all are replaced.

        Args:
            tests_s: distinct test rows, ascending.
            entry_sW: their `packed` entries, best first, then anything.
            num_entries_s: how many there are of each.
            length_s: how many entries of each can be the best row. A screened list has more behind them, among which
                there may be rivals.
            are_ranked: whether the order is exact.
        """
        width = entry_sW.shape[1]
        if len(tests_s) == len(self._place_m):
            self.entry_mW = entry_sW
        else:
            missing = max(0, width - self.entry_mW.shape[1])
            if missing:
                self.entry_mW = np.pad(self.entry_mW, ((0, 0), (0, missing)))
            self.entry_mW[tests_s, :width] = entry_sW
        self._known_key_k[:] = np.nan
        self._num_entries_m[tests_s] = num_entries_s
        self._place_m[tests_s] = 0
        self._length_m[tests_s] = length_s
        self._is_ranked_m[tests_s] = are_ranked

    def num_left(self) -> npt.NDArray[np.int64]:
        """(m,) entries from each list's place on, removed rows among them; 0: the list is dry."""
        return self._length_m - self._place_m

    def skip_removed(self, remaining_N: npt.NDArray[np.bool_]) -> None:
        """Move every list's place to its first remaining row, or to its end."""
        width = self.entry_mW.shape[1]
        open_m = np.flatnonzero(self._place_m < self._length_m)
        look = _FIRST_LOOK
        while len(open_m):
            place_m, length_m = self._place_m[open_m], self._length_m[open_m]
            cell_mL = (open_m * width + place_m)[:, None] + np.arange(look)
            # Beyond the end of the array, any cell will do: beyond a list's length nothing counts.
            entry_mL = self.entry_mW.ravel().take(cell_mL, mode="clip")
            remains_mL = remaining_N.take(rows_of(entry_mL), mode="clip")
            step_m = remains_mL.argmax(axis=1)
            none_m = ~remains_mL[np.arange(len(open_m)), step_m]
            step_m[none_m] = look
            place_m += step_m
            self._place_m[open_m] = np.minimum(place_m, length_m)
            open_m = open_m[none_m & (place_m < length_m)]
            look *= 2

    def first_rows(self) -> npt.NDArray[np.int64]:
        """(m,) the row at each list's place; no list is dry."""
        return rows_of(self.entry_mW[np.arange(len(self._place_m)), self._place_m])

    def rivals(self, remaining_N: npt.NDArray[np.bool_]) -> Rivals:
        """Entries that remain and that float32 can't tell from the first remaining one, itself included; no list is
        dry. Of lists that have at least two such entries."""
        width = self.entry_mW.shape[1]
        entry_W = self.entry_mW.ravel()
        each_m = np.arange(len(self._place_m))
        first_m = each_m * width + self._place_m
        last_m = (entry_W.take(first_m) | _ROW_MASK) + self._margin
        end_m = each_m * width + self._num_entries_m
        has_next_m = (first_m + 1 < end_m) & (entry_W.take(first_m + 1, mode="clip") <= last_m)
        open_m = np.flatnonzero(has_next_m & ~self._is_ranked_m)
        found = [each_m[:0]]
        start, look = 0, _FIRST_LOOK
        while len(open_m):
            cell_mL = first_m[open_m, None] + np.arange(start, start + look)
            entry_mL = entry_W.take(cell_mL, mode="clip")
            near_mL = (entry_mL <= last_m[open_m, None]) & (cell_mL < end_m[open_m, None])
            near_i, near_j = np.nonzero(near_mL & remaining_N.take(rows_of(entry_mL), mode="clip"))
            found.append(cell_mL[near_i, near_j])
            open_m = open_m[near_mL[:, -1]]
            start, look = start + look, 2 * look
        return self._where_several(found)

    def _where_several(self, found: list[npt.NDArray[np.int64]]) -> Rivals:
        """Entries by their cells, less those that are alone in their list."""
        cell_k = np.concatenate(found)
        cell_k.sort()
        test_k = cell_k // self.entry_mW.shape[1]
        as_before_k = np.zeros(len(cell_k) + 1, dtype=np.bool_)
        np.equal(test_k[1:], test_k[:-1], out=as_before_k[1:-1])
        several = np.flatnonzero(as_before_k[:-1] | as_before_k[1:])
        cell_k, test_k = cell_k[several], test_k[several]
        first_r = np.flatnonzero(~as_before_k[several])
        rows_k = rows_of(self.entry_mW.ravel().take(cell_k))
        return Rivals(cell_k, test_k, rows_k, self._known_keys(cell_k), first_r)

    def _known_keys(self, cell_k: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        at_k = np.minimum(np.searchsorted(self._known_cell_k, cell_k), len(self._known_cell_k) - 1)
        return np.where(self._known_cell_k[at_k] == cell_k, self._known_key_k[at_k], np.nan)

    def keep_exact(self, rivals: Rivals) -> None:
        """Remember the exact keys of rivals: as rows are removed, those that remain are rivals the next time."""
        self._known_cell_k, self._known_key_k = rivals.cell, rivals.key
