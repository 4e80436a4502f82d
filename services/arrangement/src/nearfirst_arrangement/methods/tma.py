"""TMA, test-set matching arrangement: orders made of rounds (`rounds.py`).

Shapes: N train rows, n of them in the order.
"""

from itertools import islice

import numpy as np

from nearfirst.contracts.arrangements import ArrangementRules, Fidelity, Order
from nearfirst.contracts.problems import InvalidInput
from nearfirst.similarity.exact import SIMILARITY_QUANTUM
from nearfirst_arrangement.methods.arranged import ArrangedOrder, Pool, seeded_permutation
from nearfirst_arrangement.methods.rounds import ChosenRows, Rounds, in_order, whole_pool, whole_rounds


def arrange_tma(rules: ArrangementRules, pool: Pool) -> ArrangedOrder:
    """Order rows by the rounds in which test rows take them.

    `min` is the rows of the nearest rounds, `max` those of the farthest rounds (each test row takes its farthest
    remaining row), each in round order. Then

    - no limit: nft is the whole pool as in `min`, fft its exact reverse, rt a seeded shuffle of it;
    - `rounds` [i, j): the same three over the rows of these rounds; a limit with it keeps the first of them in `min`'s
      order before fft reverses and rt shuffles;
    - limit n: min and max are their first n rows. nft is the first ceil(n/2) of `min`, then floor(n/2) of `max`
      reversed; fft is floor(n/2) of `max`, then ceil(n/2) of `min` reversed; rt is a seeded shuffle of nft's rows.

    Args:
        rules: `fidelity` decides two things. Inside a round: `in_order`. A limit: `paper` takes whole rounds until it
            is met and may overshoot, for each half of nft and fft on its own, and drops a row of the second half that
            the first half has; `corrected` gives exactly n distinct rows: where the halves overlap, the second half
            goes further down its list instead. While they don't overlap, nft, fft and rt have the same rows and fft is
            nft reversed.
        pool: with embeddings.

    Returns:
        `round` counts from 0; in nft, fft and rt with a limit the rows of the `max` half carry their round in `max`.
        `num_rounds` counts the rounds that gave rows, both halves together.

    Raises:
        InvalidInput: the limit is above the pool, or above the rows in `rounds`; `rounds` goes beyond the last round;
            no embeddings.

    References: He et al. 2025 (arXiv 2406.11721), section 4.2 and figure 5.
    """
    pool.check_limit(rules.limit)
    if rules.order in (Order.MIN, Order.MAX):
        assert rules.limit is not None, "ArrangementRules asks for a limit"
        chosen = _side(pool, rules.limit, rules.fidelity, farthest=rules.order is Order.MAX)
        return _arranged(chosen, chosen.num_rounds)
    if rules.limit is not None and rules.rounds is None:
        return _two_sided(rules, pool, rules.limit)
    chosen = _range_of_rounds(rules, pool)
    num_rounds = chosen.num_rounds
    if rules.order is Order.FFT:
        chosen = chosen.reversed()
    elif rules.order is Order.RT:
        chosen = chosen.take(seeded_permutation(len(chosen), rules.seed))
    return _arranged(chosen, num_rounds)


def _arranged(chosen: ChosenRows, num_rounds: int) -> ArrangedOrder:
    return ArrangedOrder(
        chosen.rows,
        round=chosen.round,
        score=chosen.similarity,
        nearest_test=chosen.nearest_test,
        nearest_similarity=chosen.nearest_similarity,
        num_rounds=num_rounds,
        report={"similarity_quantum": SIMILARITY_QUANTUM},
    )


def _side(
    pool: Pool, num_rows: int, fidelity: Fidelity, *, farthest: bool, taken: ChosenRows | None = None
) -> ChosenRows:
    """The first `num_rows` rows of `min` or `max` that are not in `taken`.

    `paper`: the whole rounds that hold `num_rows` rows, those in `taken` counted, then left out.
    """
    if fidelity is Fidelity.PAPER:
        chosen = in_order(pool, whole_rounds(pool, num_rows, farthest=farthest), fidelity, farthest=farthest)
        return chosen if taken is None else chosen.without(taken)
    found = whole_rounds(pool, num_rows, farthest=farthest, taken=taken)
    chosen = in_order(pool, found, fidelity, farthest=farthest)
    if taken is not None:
        chosen = chosen.without(taken)
    return chosen.take(slice(num_rows))


def _two_sided(rules: ArrangementRules, pool: Pool, limit: int) -> ArrangedOrder:
    """nft, fft and rt at a limit: half from `min`, half from `max`."""
    num_nearest, num_farthest = limit - limit // 2, limit // 2
    starts_far = rules.order is Order.FFT
    num_first, num_second = (num_farthest, num_nearest) if starts_far else (num_nearest, num_farthest)
    if num_farthest == 0:
        nearest = _side(pool, limit, rules.fidelity, farthest=False)
        chosen, num_rounds = nearest.reversed() if starts_far else nearest, nearest.num_rounds
    else:
        first = _side(pool, num_first, rules.fidelity, farthest=starts_far)
        second = _side(pool, num_second, rules.fidelity, farthest=not starts_far, taken=first)
        chosen, num_rounds = first.followed_by(second.reversed()), first.num_rounds + second.num_rounds
    if rules.order is Order.RT:
        chosen = chosen.take(seeded_permutation(len(chosen), rules.seed))
    return _arranged(chosen, num_rounds)


def _range_of_rounds(rules: ArrangementRules, pool: Pool) -> ChosenRows:
    """The rows of rounds [i, j), or of all rounds, in `min`'s order; `limit` keeps the first of them."""
    if rules.rounds is None:
        return whole_pool(pool, rules.fidelity)
    start, stop = rules.rounds
    found = list(islice(Rounds(pool), stop))
    if len(found) < stop:
        raise InvalidInput(
            f"rounds: got [{start}, {stop}), but there are {len(found)} rounds: wanted at most {len(found)}"
        )
    chosen = in_order(pool, found[start:], rules.fidelity, first_round=start)
    return chosen if rules.limit is None else _cut(chosen, rules.limit, rules)


def _cut(chosen: ChosenRows, limit: int, rules: ArrangementRules) -> ChosenRows:
    """The first `limit` rows; `paper`: to the end of the round that meets the limit."""
    if limit > len(chosen):
        raise InvalidInput(
            f"limit: got {limit}, wanted at most {len(chosen)}, the rows in rounds {list(rules.rounds or ())}"
        )
    if rules.fidelity is Fidelity.CORRECTED:
        return chosen.take(slice(limit))
    last_round = chosen.round[limit - 1]
    return chosen.take(slice(int(np.searchsorted(chosen.round, last_round, side="right"))))
