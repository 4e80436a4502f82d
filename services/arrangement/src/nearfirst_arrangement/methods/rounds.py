"""TMA's rounds: every test row takes its nearest (or farthest) remaining train row, again and again.

Shapes: N train rows, n of them chosen, r of them in one round, M test rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nearfirst.contracts.arrangements import Fidelity
from nearfirst.similarity.embeddings import distinct_rows
from nearfirst.similarity.pairs import similarities_of_pairs
from nearfirst.similarity.remaining import CandidateLists
from nearfirst_arrangement.methods.arranged import Pool, nearest_similarity


class Round(NamedTuple):
    """The rows of one round."""

    rows: npt.NDArray[np.int64]
    """(r,) distinct, ascending."""
    taken: npt.NDArray[np.int64]
    """(M,) the row that each test row took."""


@dataclass(frozen=True, slots=True)
class ChosenRows:
    """Rows of some rounds in the order in which a fidelity takes them, with their provenance; arrays are (n,)."""

    rows: npt.NDArray[np.int64]
    round: npt.NDArray[np.int32]
    similarity: npt.NDArray[np.float64]
    """To the test row that chose it, within [-1, 1]."""
    nearest_test: npt.NDArray[np.int64]
    nearest_similarity: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, places: npt.NDArray[np.int64] | slice) -> "ChosenRows":
        """These places, in this order."""
        return ChosenRows(
            self.rows[places],
            self.round[places],
            self.similarity[places],
            self.nearest_test[places],
            self.nearest_similarity[places],
        )

    def reversed(self) -> "ChosenRows":
        """Last first."""
        return self.take(slice(None, None, -1))

    def without(self, others: "ChosenRows") -> "ChosenRows":
        """Those that are not in `others`."""
        return self.take(np.flatnonzero(~np.isin(self.rows, others.rows)))

    def followed_by(self, others: "ChosenRows") -> "ChosenRows":
        """These, then `others`."""
        return ChosenRows(
            np.concatenate([self.rows, others.rows]),
            np.concatenate([self.round, others.round]),
            np.concatenate([self.similarity, others.similarity]),
            np.concatenate([self.nearest_test, others.nearest_test]),
            np.concatenate([self.nearest_similarity, others.nearest_similarity]),
        )

    @property
    def num_rounds(self) -> int:
        """Distinct rounds."""
        return len(np.unique(self.round))


def rounds(pool: Pool, *, farthest: bool = False, num_wanted: int | None = None) -> Iterator[Round]:
    """TMA's rounds, until the pool is empty; computed as they are asked for.

    In each round every test row takes its nearest remaining train row (`farthest`: its farthest), the lower index on a
    tie; the round is the union. Equals the literal loop - argmin over the remaining rows of each test column - row for
    row.

    Args:
        pool: with embeddings.
        farthest: as above.
        num_wanted: rows after which the caller will stop asking, for the progress; None: the whole pool.
    """
    train_ND, test_MD = pool.embeddings()
    wanted = num_wanted or pool.num_train
    num_chosen = 0

    def report(done: int, total: int | None, unit: str) -> None:
        if num_chosen == 0:
            pool.progress(done, total, unit)
        else:
            pool.progress(min(num_chosen, wanted), wanted, "rows chosen")

    lists = CandidateLists(
        train_ND,
        test_MD,
        farthest=farthest,
        num_wanted=num_wanted,
        initial=pool.precomputed.farthest if farthest else pool.precomputed.nearest,
        memory_budget_bytes=pool.memory_budget_bytes,
        progress=report,
    )
    while lists.num_remaining:
        taken_M = lists.best()
        rows_r = np.unique(taken_M)
        lists.remove(rows_r)
        num_chosen += len(rows_r)
        report(num_chosen, wanted, "rows chosen")
        yield Round(rows_r, taken_M)


def whole_rounds(pool: Pool, num_rows: int, *, farthest: bool = False, taken: ChosenRows | None = None) -> list[Round]:
    """As many rounds as it takes to have `num_rows` rows that are not in `taken`, or all when there are fewer."""
    is_wanted_N = np.ones(pool.num_train, dtype=np.bool_)
    if taken is not None:
        is_wanted_N[taken.rows] = False
    found: list[Round] = []
    num_found = 0
    for each in rounds(pool, farthest=farthest, num_wanted=num_rows):
        found.append(each)
        num_found += int(is_wanted_N[each.rows].sum())
        if num_found >= num_rows:
            break
    return found


def in_order(
    pool: Pool, found: list[Round], fidelity: Fidelity, *, farthest: bool = False, first_round: int = 0
) -> ChosenRows:
    """Rounds one after the other.

    Args:
        pool: with embeddings.
        found: consecutive rounds.
        fidelity: inside a round `paper` keeps ascending train index; `corrected` has the row first whose nearest test
            row is nearest, lower index on a tie (in farthest rounds too).
        farthest: whether test rows took their farthest rows.
        first_round: the number of the first.
    """
    rows_n = np.concatenate([each.rows for each in found])
    round_n = np.repeat(np.arange(first_round, first_round + len(found)), [len(each.rows) for each in found])
    similarity_n = _similarity_to_taker(pool, found, rows_n, farthest=farthest)
    aggregates = pool.aggregates(rows_n)
    nearest_n = nearest_similarity(aggregates)
    chosen = ChosenRows(rows_n, round_n.astype(np.int32), similarity_n, aggregates.nearest_test, nearest_n)
    if fidelity is Fidelity.PAPER:
        return chosen
    return chosen.take(np.lexsort((rows_n, -nearest_n, round_n)))


def _similarity_to_taker(
    pool: Pool, found: list[Round], rows_n: npt.NDArray[np.int64], *, farthest: bool
) -> npt.NDArray[np.float64]:
    """(n,) similarity of each row to the test row that took it; of several the highest (farthest: lowest)."""
    train_ND, test_MD = pool.embeddings()
    tests_m = distinct_rows(test_MD).first
    taken_mR = np.array([each.taken[tests_m] for each in found]).T
    key_mR = similarities_of_pairs(train_ND, taken_mR.ravel(), test_MD, np.repeat(tests_m, len(found)))
    if farthest:
        key_mR = -key_mR
    place_N = np.empty(len(train_ND), dtype=np.int64)
    place_N[rows_n] = np.arange(len(rows_n))
    best_n = np.full(len(rows_n), -np.inf)
    np.maximum.at(best_n, place_N[taken_mR.ravel()], key_mR)
    return np.clip(-best_n if farthest else best_n, -1.0, 1.0) + 0.0
