"""TMA's rounds: every test row takes its nearest (or farthest) remaining train row, again and again.

Shapes: N train rows, n of them chosen, r of them in one round, M test rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nearfirst.contracts.arrangements import Fidelity
from nearfirst.similarity.candidates import BestRemaining, CandidateLists
from nearfirst_arrangement.methods.arranged import Pool, nearest_similarity


class Round(NamedTuple):
    """The rows of one round."""

    rows: npt.NDArray[np.int64]
    """(r,) distinct, ascending."""
    similarity: npt.NDArray[np.float64]
    """(r,) to the test row that took it; of several, the highest (farthest rounds: the lowest)."""


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
        train_ND, test_MD, farthest=farthest, memory_budget_bytes=pool.memory_budget_bytes, progress=report
    )
    while lists.num_remaining:
        taken = _union(lists.best(), farthest=farthest)
        lists.remove(taken.rows)
        num_chosen += len(taken.rows)
        report(num_chosen, wanted, "rows chosen")
        yield taken


def _union(best: BestRemaining, *, farthest: bool) -> Round:
    """What the test rows took, each train row once."""
    by_row_M = np.lexsort((best.similarity if farthest else -best.similarity, best.rows))
    rows_r, first_r = np.unique(best.rows[by_row_M], return_index=True)
    return Round(rows_r, best.similarity[by_row_M][first_r])


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


def in_order(pool: Pool, found: list[Round], fidelity: Fidelity, *, first_round: int = 0) -> ChosenRows:
    """Rounds one after the other.

    Args:
        pool: with embeddings.
        found: consecutive rounds.
        fidelity: inside a round `paper` keeps ascending train index; `corrected` has the row first whose nearest test
            row is nearest, lower index on a tie (in farthest rounds too).
        first_round: the number of the first.
    """
    rows_n = np.concatenate([each.rows for each in found])
    round_n = np.repeat(np.arange(first_round, first_round + len(found)), [len(each.rows) for each in found])
    similarity_n = np.clip(np.concatenate([each.similarity for each in found]), -1.0, 1.0)
    aggregates = pool.aggregates(rows_n)
    nearest_n = nearest_similarity(aggregates)
    chosen = ChosenRows(rows_n, round_n.astype(np.int32), similarity_n, aggregates.nearest_test, nearest_n)
    if fidelity is Fidelity.PAPER:
        return chosen
    return chosen.take(np.lexsort((rows_n, -nearest_n, round_n)))
