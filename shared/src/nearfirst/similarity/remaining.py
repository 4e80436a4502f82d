"""For each test row, the nearest or farthest train row that nobody has taken yet, exactly, without an N x M matrix.

Every test row keeps a list of its best K remaining train rows under the total order (similarity, then lower index), and
walks down it past rows that others took. A list that runs dry is filled again from the rows that remain. Rows outside a
list are worse than all rows in it, and rows are only ever removed, so the first remaining row of a list is the best of
all that remain.

Shapes: N train rows, M test rows, m of them distinct, D dimensions, K candidates.
"""

import numpy as np
import numpy.typing as npt
import torch

from nearfirst.contracts.progress import ProgressCallback, ignore_progress
from nearfirst.similarity.blocks import DEFAULT_MEMORY_BUDGET_BYTES, block_shape
from nearfirst.similarity.candidates import CandidateBlock, RowsRead, default_list_length
from nearfirst.similarity.embeddings import check_same_dimensions, distinct_rows
from nearfirst.similarity.exact import check_dimensions
from nearfirst.similarity.screening import default_device, full_precision
from nearfirst.similarity.shortlists import Ranking, best_rows

_FIRST_LOOK = 8
"""Entries of a list that are looked at together for one that remains; twice as many each time none does."""
_LISTS_PER_WANTED = 4
_LEAST_LENGTH = 32


class CandidateLists:
    """The remaining train rows, as each test row ranks them.

    Args:
        train_ND: (N, D) float32 unit rows (`normalise`); may be memory-mapped.
        test_MD: (M, D) float32 unit rows.
        farthest: rank by ascending similarity instead of descending.
        num_wanted: about how many rows will be removed in all; makes the lists shorter. None: all. Changes no result.
        initial: the test rows' candidates among all train rows, if somebody has found them: saves the first filling.
        memory_budget_bytes: what lists and blocks may take beside the embeddings; gives K. Changes no result.
        progress: called now and then while lists are filled, with remaining rows read; it may raise to stop.
        device: where to multiply; None: the GPU where there is one. Changes no result.

    Ties: of equally similar rows the lower train index comes first, in both directions.

    Raises:
        InvalidEmbeddings: train and test differ in D, or D is above `MAX_DIMENSIONS`.

    Notes:
        Identical test rows share a list. A filling reads the remaining rows once and multiplies them with the test rows
        whose lists are short (`shortlists.best_rows`). Memory: a list and what fills it, 52 M K bytes, and a block.
    """

    def __init__(
        self,
        train_ND: npt.NDArray[np.float32],
        test_MD: npt.NDArray[np.float32],
        *,
        farthest: bool = False,
        num_wanted: int | None = None,
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
        self._sign = -1.0 if farthest else 1.0
        self._block_budget_bytes = memory_budget_bytes // 2
        self._progress = progress
        self._device = device or default_device()
        num_test = len(self._test_mD)
        self._remaining_N = np.ones(len(train_ND), dtype=np.bool_)
        self._num_remaining = len(train_ND)
        self._max_length = default_list_length(len(train_ND), num_test, memory_budget_bytes)
        if num_wanted is not None:
            enough = max(_LEAST_LENGTH, _LISTS_PER_WANTED * -(-num_wanted // num_test))
            self._max_length = min(self._max_length, enough)
        self._place_m = np.zeros(num_test, dtype=np.int64)
        if initial is None:
            self._rows_mK = np.zeros((num_test, self._max_length), dtype=np.int64)
            self._length_m = np.zeros(num_test, dtype=np.int64)
        else:
            self._rows_mK = np.array(initial.rows_MK[self._distinct.first])
            self._length_m = np.array(initial.length_M[self._distinct.first])

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
        self._skip_removed()
        if bool((self._place_m >= self._length_m).any()):
            # Lists that are almost dry would ask for the same reading of the pool a few rounds later.
            self._fill(np.flatnonzero(self._length_m - self._place_m <= self._max_length // 4))
        best_m: npt.NDArray[np.int64] = self._rows_mK[np.arange(len(self._place_m)), self._place_m]
        return best_m[self._distinct.number]

    def _skip_removed(self) -> None:
        """Move every list's place to its first remaining row, or to its end."""
        open_m = np.flatnonzero(self._place_m < self._length_m)
        look = _FIRST_LOOK
        while len(open_m):
            ahead_mL = self._place_m[open_m, None] + np.arange(look)
            inside_mL = ahead_mL < self._length_m[open_m, None]
            rows_mL = self._rows_mK[open_m[:, None], np.minimum(ahead_mL, self._rows_mK.shape[1] - 1)]
            remains_mL = self._remaining_N[rows_mL] & inside_mL
            step_m = remains_mL.argmax(axis=1)
            none_m = ~remains_mL[np.arange(len(open_m)), step_m]
            step_m[none_m] = look
            self._place_m[open_m] = np.minimum(self._place_m[open_m] + step_m, self._length_m[open_m])
            open_m = open_m[none_m & inside_mL[:, -1]]
            look *= 2

    def _fill(self, tests_m: npt.NDArray[np.int64]) -> None:
        """Give some test rows new lists, from the rows that remain."""
        all_remain = self._num_remaining == len(self._train_ND)
        rows = slice(0, len(self._train_ND)) if all_remain else np.flatnonzero(self._remaining_N)
        length = min(self._max_length, self._rows_mK.shape[1], self._num_remaining)
        shape = block_shape(self._num_remaining, len(tests_m), self._train_ND.shape[1], self._block_budget_bytes)
        ranking = Ranking(
            self._train_ND,
            rows,
            self._num_remaining,
            self._test_mD[tests_m],
            length=length,
            sign=self._sign,
            with_keys=False,
            device=self._device,
        )
        reading = RowsRead(self._num_remaining * -(-len(tests_m) // shape.test), self._progress)
        with full_precision():
            self._rows_mK[tests_m, :length] = best_rows(ranking, shape, reading.add).rows
        self._place_m[tests_m] = 0
        self._length_m[tests_m] = length
