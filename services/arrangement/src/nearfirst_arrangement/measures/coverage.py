"""Whether each test row has something near it in the order, and how early.

Shapes: n rows of the order, M test rows.
"""

import numpy as np
import numpy.typing as npt

from nearfirst.contracts.reports import MAX_TEST_ROWS, NUM_WORST, Coverage, CoverageAtShare, RowCoverage
from nearfirst_arrangement.measures.inputs import MeasuredRows, UnitVectors
from nearfirst_arrangement.measures.pairs import BestRows
from nearfirst_arrangement.measures.rounding import rounded, rounded_list

LEVELS = (0.5, 0.7, 0.9)
SHARES = (0.1, 0.5, 1.0)
RELATED_SIMILARITY = 0.7
_PERCENTILES = np.arange(101)


def coverage_ends(num_rows: int) -> npt.NDArray[np.int64]:
    """Rows in each of `SHARES` of an order, rounded up."""
    return np.array([-(-num_rows * round(10 * share) // 10) for share in SHARES], dtype=np.int64)


def coverage(test: MeasuredRows, vectors: UnitVectors, best: BestRows) -> Coverage:
    """Coverage of the test rows by the order.

    Args:
        test: M rows.
        vectors: of the order and of `test`.
        best: with similarities at `coverage_ends`.
    """
    num_nearest_M = np.bincount(vectors.nearest_test, minlength=len(test))
    ends = coverage_ends(len(vectors))
    return Coverage(
        levels=list(LEVELS),
        shares=[
            _at_share(share, int(end), similarity_M)
            for share, end, similarity_M in zip(SHARES, ends, best.similarity, strict=True)
        ],
        related_similarity=RELATED_SIMILARITY,
        num_never_nearest=int(np.count_nonzero(num_nearest_M == 0)),
        rows=_row_coverage(test, best, num_nearest_M, len(vectors)),
    )


def _at_share(share: float, num_rows: int, similarity_M: npt.NDArray[np.float64]) -> CoverageAtShare:
    return CoverageAtShare(
        share=share,
        num_rows=num_rows,
        covered=[rounded(np.mean(similarity_M >= level)) for level in LEVELS],
        percentiles=rounded_list(np.percentile(similarity_M, _PERCENTILES)),
    )


def _row_coverage(
    test: MeasuredRows, best: BestRows, num_nearest_M: npt.NDArray[np.int64], num_rows: int
) -> RowCoverage:
    similarity_M = best.similarity[-1]
    is_complete = len(test) <= MAX_TEST_ROWS
    listed = np.arange(len(test)) if is_complete else np.argsort(similarity_M, kind="stable")[:NUM_WORST]
    return RowCoverage(
        is_complete=is_complete,
        ids=[test.ids[row] for row in listed.tolist()],
        best_similarity=rounded_list(similarity_M[listed]),
        best_position=best.position[listed].tolist(),
        num_nearest=num_nearest_M[listed].tolist(),
        first_related_position=[
            None if position == num_rows else position for position in best.first_related[listed].tolist()
        ],
    )
