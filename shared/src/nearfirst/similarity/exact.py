r"""Cosine similarities that come out the same whatever multiplies the matrices.

A float64 matrix product depends on the order of its additions, so on the block size, the number of threads and the
processor. Here every addition inside a product is exact, and then no order of additions can matter (ADR 0002). A unit
row x is split into two fixed-point parts,

    x = hi + lo,   hi a multiple of 2^-26,   lo a multiple of 2^-45,   |lo| <= 2^-27

and the similarity of two rows is

    s(a, b) = round(hi_a . hi_b  +  (hi_a . lo_b + lo_a . hi_b),  to a multiple of 2^-40).

Terms of hi . hi are multiples of 2^-52 and any partial sum is below 2 (Cauchy-Schwarz on unit rows): 53 bits hold it.
Terms of hi . lo are multiples of 2^-71 and any partial sum is below sqrt(D) 2^-26 <= 2^-18: 53 bits again. The left-out
lo_a . lo_b is at most D 2^-54, of random sign: about 2^-53 for D = 384, far below the quantum. The result is that of a
plain float64 dot product, rounded to the quantum.

Shapes: B and C rows, D dimensions.

References:
    K. Ozaki et al., "Error-free transformations of matrix multiplication by using fast routines of matrix
    multiplication and its applications", Numerical Algorithms 59 (2012).
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nearfirst.contracts.problems import InvalidEmbeddings

SIMILARITY_QUANTUM = 2.0**-40
"""Similarities and scores are multiples of this; two that round to the same multiple are a tie."""

MAX_DIMENSIONS = 2**15
"""Above this a partial sum of the second product might need more than 53 bits."""

_QUANTA_PER_UNIT = 2.0**40
_HI_SCALE = 2.0**26
_LO_SCALE = 2.0**45


class SplitRows(NamedTuple):
    """Unit rows as the sum of two fixed-point parts, each (B, D) float64."""

    hi: npt.NDArray[np.float64]
    """Multiples of 2^-26."""
    lo: npt.NDArray[np.float64]
    """Multiples of 2^-45, at most 2^-27 in size."""


def check_dimensions(num_dimensions: int) -> None:
    """Refuse rows wider than the proof covers.

    Raises:
        InvalidEmbeddings: above `MAX_DIMENSIONS`.
    """
    if num_dimensions > MAX_DIMENSIONS:
        raise InvalidEmbeddings(f"embeddings have {num_dimensions} dimensions, wanted at most {MAX_DIMENSIONS}")


def split_rows(rows_BD: npt.NDArray[np.float32]) -> SplitRows:
    """Split unit rows into fixed-point parts (see the module's text).

    Args:
        rows_BD: (B, D) float32 rows of unit length; D at most `MAX_DIMENSIONS`.

    Raises:
        InvalidEmbeddings: D is above `MAX_DIMENSIONS`.
    """
    check_dimensions(rows_BD.shape[1])
    exact_BD = rows_BD.astype(np.float64)
    hi_BD = exact_BD * _HI_SCALE
    np.rint(hi_BD, out=hi_BD)
    hi_BD /= _HI_SCALE
    exact_BD -= hi_BD
    exact_BD *= _LO_SCALE
    np.rint(exact_BD, out=exact_BD)
    exact_BD /= _LO_SCALE
    return SplitRows(hi_BD, exact_BD)


def exact_products(left: SplitRows, right: SplitRows) -> npt.NDArray[np.float64]:
    """Cosine similarities before they are rounded to the quantum: for sums over many of them.

    Returns:
        (B, C) float64. A pair's value is a function of its two rows alone, and the same with `left` and `right`
        exchanged.

    Notes:
        Three float64 matrix products of shape B x C x D; memory 16 B C bytes.
    """
    cross_BC = left.hi @ right.lo.T
    cross_BC += left.lo @ right.hi.T
    sim_BC: npt.NDArray[np.float64] = left.hi @ right.hi.T
    sim_BC += cross_BC
    return sim_BC


def exact_similarities(left: SplitRows, right: SplitRows) -> npt.NDArray[np.float64]:
    """Cosine similarity of every row of `left` with every row of `right`, to be ranked.

    Returns:
        (B, C) float64, multiples of `SIMILARITY_QUANTUM`; otherwise as `exact_products`.
    """
    return round_to_quantum(exact_products(left, right))


def round_to_quantum(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Round in place to the nearest multiple of `SIMILARITY_QUANTUM`, halves to even; returns `values`."""
    values *= _QUANTA_PER_UNIT
    np.rint(values, out=values)
    values *= SIMILARITY_QUANTUM
    values += 0.0  # -0.0 and 0.0 are one value in files too
    return values
