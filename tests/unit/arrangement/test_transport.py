"""OT: optimal by another solver, the literal POT call, and what is refused."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from nearfirst.contracts.arrangements import ArrangementRules
from nearfirst.contracts.problems import InvalidInput, NearfirstError
from nearfirst_arrangement import feasibility
from nearfirst_arrangement.methods import arrange as arrange_rows
from nearfirst_arrangement.methods import transport

OT = {"method": "ot", "order": "nft"}
VARIANTS = [("corrected", "cosine"), ("corrected", "euclidean"), ("paper", "euclidean")]


def lowest_cost(cost):
    """Of all plans with uniform marginals, by the simplex of another library."""
    num_train, num_test = cost.shape
    marginals = np.zeros((num_train + num_test, num_train * num_test))
    for row, column in itertools.product(range(num_train), range(num_test)):
        marginals[[row, num_train + column], row * num_test + column] = 1
    masses = np.r_[np.full(num_train, 1 / num_train), np.full(num_test, 1 / num_test)]
    found = linprog(cost.ravel(), A_eq=marginals[:-1], b_eq=masses[:-1], method="highs")
    assert found.success
    return found.fun


@pytest.mark.parametrize(("fidelity", "similarity"), VARIANTS)
@pytest.mark.parametrize("shape", [(20, 7), (9, 9), (5, 12)])
def test_the_total_cost_is_the_lowest_that_linear_programming_finds(smooth, arrange, fidelity, similarity, shape):
    part = smooth._replace(train=smooth.train[: shape[0]], test=np.resize(smooth.test, (shape[1], 16)))
    part = part._replace(train_tasks=None, test_tasks=None)
    arranged = arrange(part, **OT, fidelity=fidelity, similarity=similarity)
    cost = 1 + part.distance if similarity == "cosine" else np.sqrt(np.maximum(2 + 2 * part.distance, 0))
    assert arranged.report["total_cost"] == pytest.approx(lowest_cost(cost), abs=1e-9)
    assert arranged.report["total_cost"] == pytest.approx(arranged.score.sum(), abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(
    train=st.lists(st.tuples(*[st.integers(-2, 2)] * 2).filter(any), min_size=1, max_size=9),
    test=st.lists(st.tuples(*[st.integers(-2, 2)] * 2).filter(any), min_size=1, max_size=6),
    variant=st.sampled_from(VARIANTS),
)
def test_the_total_cost_is_the_lowest_among_ties_and_copies_too(train, test, variant):
    fidelity, similarity = variant
    rules = ArrangementRules(**OT, fidelity=fidelity, similarity=similarity)
    arranged = arrange_rows(rules, np.array(train, float), np.array(test, float), len(train))
    unit_train, unit_test = (np.array(rows) / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (train, test))
    cosine = unit_train @ unit_test.T
    cost = 1 - cosine if similarity == "cosine" else np.sqrt(np.maximum(2 - 2 * cosine, 0))
    # A euclidean cost near 0 is the root of float32 rounding.
    assert arranged.report["total_cost"] == pytest.approx(
        lowest_cost(cost), abs=1e-6 if similarity == "cosine" else 1e-3
    )


@pytest.mark.parametrize(("fidelity", "similarity"), VARIANTS)
@pytest.mark.parametrize("order", ["nft", "fft"])
def test_without_copies_both_fidelities_are_pot_s_own_call(smooth, arrange, fidelity, similarity, order):
    import ot

    distance = smooth.distance
    cost = 1 + distance if similarity == "cosine" else np.sqrt(2 + 2 * distance)
    score = (ot.emd(ot.unif(cost.shape[0]), ot.unif(cost.shape[1]), cost) * cost).sum(axis=1)
    arranged = arrange(smooth, method="ot", order=order, fidelity=fidelity, similarity=similarity)
    ascending = np.argsort(np.rint(score * len(score) * 2**36), kind="stable").tolist()
    assert arranged.index.tolist() == ascending[:: -1 if order == "fft" else 1]
    np.testing.assert_allclose(arranged.score, score[arranged.index], atol=1e-12)


def test_corrected_gives_copies_of_a_row_one_score(smooth, arrange):
    train = smooth.train[:60].copy()
    train[[3, 17, 44]] = train[30]
    test = smooth.test[[0, 1, 2, 1, 3, 1]]
    sample = smooth._replace(train=train, test=test, train_tasks=None, test_tasks=None)
    arranged = arrange(sample, **OT)
    places = [arranged.index.tolist().index(row) for row in (3, 17, 30, 44)]
    assert places == list(range(places[0], places[0] + 4))
    assert len(set(arranged.score[places].tolist())) == 1


def test_corrected_hands_each_row_to_the_solver_once_whatever_the_sign_of_its_zeros(smooth, arrange, monkeypatch):
    import ot

    handed = []

    def solve(mass_train, mass_test, cost, solver=ot.emd, **options):
        handed.append((mass_train.tolist(), mass_test.tolist()))
        return solver(mass_train, mass_test, cost, **options)

    monkeypatch.setattr(ot, "emd", solve)
    train, test = smooth.train[:5].copy(), smooth.test[[0, 1, 1]].copy()
    train[[1, 4], 0], train[4, 1:] = 0.0, train[1, 1:]
    train[4, 0], test[1:, 0], test[2, 0] = -0.0, 0.0, -0.0
    arrange(smooth._replace(train=train, test=test, train_tasks=None, test_tasks=None), **OT)
    assert handed == [([3, 6, 3, 3], [5, 10])]


def test_a_row_in_both_sides_costs_nothing(smooth, arrange):
    same = smooth._replace(train=smooth.train[:9], test=smooth.train[:9], train_tasks=None, test_tasks=None)
    for similarity, rounding in (("cosine", 1e-6), ("euclidean", 1e-3)):  # of a float32 row's length, and its root
        arranged = arrange(same, **OT, similarity=similarity)
        assert arranged.report["total_cost"] < rounding
        assert arranged.score.min() >= 0


def test_no_bit_depends_on_the_memory_budget(sample, arrange):
    for fidelity, similarity in VARIANTS:
        rules = {**OT, "fidelity": fidelity, "similarity": similarity}
        small, large = arrange(sample, budget=1, **rules), arrange(sample, **rules)
        for name in ("index", "score", "nearest_test", "nearest_similarity"):
            assert getattr(small, name).tobytes() == getattr(large, name).tobytes()


def test_more_pairs_than_the_stated_size_are_refused_with_the_memory_they_would_take():
    num_train, num_test = 1_340_000, 1_125
    with pytest.raises(
        InvalidInput, match=rf"1340000 train x 1125 test rows, 1507500000 pairs.* {1507500000 * 42} bytes"
    ):
        feasibility.check_transport_size(num_train, num_test)
    feasibility.check_transport_size(50_177, 1_000)


def test_the_size_that_counts_is_that_after_selection(smooth, arrange, monkeypatch):
    monkeypatch.setattr(feasibility, "MAX_PAIRS", 400)
    with pytest.raises(InvalidInput, match=r"method ot: got 200 train x 11 test rows, 2200 pairs.*wanted at most 400"):
        arrange(smooth, **OT)
    assert arrange(smooth, **OT, select={"per_task": 2, "how": "first"}).report["num_pool"] <= 18


def test_a_solver_that_gives_up_is_an_error_and_never_an_order(smooth, arrange, monkeypatch):
    monkeypatch.setattr(transport, "_MAX_ITERATIONS", 3)
    with pytest.raises(
        NearfirstError, match=r"200 x 11 rows: the solver stopped without an optimal plan: .*numItermax"
    ):
        arrange(smooth, **OT)


def test_progress_tells_of_the_costs_and_the_plan_and_can_stop_the_work(smooth):
    told = []

    def note(done, total, unit):
        told.append((done, total, unit))

    arrange_rows(ArrangementRules(**OT), smooth.train, smooth.test, len(smooth.train), progress=note)
    assert {unit for _, _, unit in told} >= {"rows measured", "transport plans"}
    assert all(done <= total for done, total, _ in told)

    def stop(done, total, unit):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        arrange_rows(ArrangementRules(**OT), smooth.train, smooth.test, len(smooth.train), progress=stop)
