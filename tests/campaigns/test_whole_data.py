"""Every method x order x fidelity on the whole of real P3 equals its literal float64 version, row for row.

Train: the 50,177 rows whose split is not `test`; test: the first 1,000 rows of split `test`. Run by `make check-p3`:
about six minutes on two cores, at most 6 GB. The literal version keeps whole distance matrices, and runs the paper's
loop once for each direction (half a minute each); all TMA orders are read off these rounds.
"""

import itertools

import numpy as np
import pytest
from tests.support.literal_arrangement import SHARED_DATA, Literal, load_p3

from nearfirst.contracts.arrangements import ArrangementRules
from nearfirst_arrangement.feasibility import MAX_PAIRS
from nearfirst_arrangement.methods import arrange

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FIDELITIES = ["corrected", "paper"]
SIMILARITIES = ["cosine", "euclidean"]
THREE_ORDERS = ["nft", "fft", "rt"]
LIMIT = 30_000


@pytest.fixture(scope="module")
def literal():
    sample = load_p3()
    if sample is None:
        pytest.skip(f"the P3 sample is not at {SHARED_DATA}")
    assert (len(sample.train), len(sample.test)) == (50_177, 1_000)
    assert len(np.unique(sample.train, axis=0)) < len(sample.train), "no ties: it shows nothing"
    return Literal(sample)


def rules_of(methods, orders, similarities=SIMILARITIES, **more):
    for method, order, fidelity, similarity in itertools.product(methods, orders, FIDELITIES, similarities):
        yield {"method": method, "order": order, "fidelity": fidelity, "similarity": similarity, **more}


def name(rules):
    return "-".join(f"{value}".replace(" ", "") for value in rules.values())


def index_of(rules, sample):
    arranged = arrange(
        rules,
        sample.train,
        sample.test,
        len(sample.train),
        train_tasks=sample.train_tasks,
        test_tasks=sample.test_tasks,
    )
    return arranged.index


def check(literal, **rules):
    rules = ArrangementRules(seed=5, **rules)
    found, expected = index_of(rules, literal.sample), np.array(literal.order(rules))
    different = np.flatnonzero(found[: len(expected)] != expected[: len(found)])
    assert len(found) == len(expected)
    assert len(different) == 0, f"{len(different)} places differ, the first is {different[0]}"


@pytest.mark.parametrize(
    "rules",
    [
        *rules_of(["tma"], THREE_ORDERS, ["cosine"]),
        *rules_of(["tma"], [*THREE_ORDERS, "min", "max"], ["cosine"], limit=LIMIT),
        *rules_of(["tma"], THREE_ORDERS, ["cosine"], rounds=(5, 10)),
        *rules_of(["tma"], ["nft"], ["euclidean"]),
    ],
    ids=name,
)
def test_tma_is_the_paper_s_loop(literal, rules):
    check(literal, **rules)


@pytest.mark.parametrize(
    "rules", [*rules_of(["wsd"], THREE_ORDERS), *rules_of(["wsd"], THREE_ORDERS, granularity="coarse")], ids=name
)
def test_wsd_is_its_formula_for_rows_and_tasks(literal, rules):
    check(literal, **rules)


@pytest.mark.parametrize("method", ["as_is", "random", "cluster", "round_robin"])
@pytest.mark.parametrize("fidelity", FIDELITIES)
def test_orders_without_similarity_are_the_literal_ones(literal, method, fidelity):
    check(literal, method=method, fidelity=fidelity)


@pytest.mark.parametrize("how", ["random", "first", "polar", "uniform"])
@pytest.mark.parametrize(
    "rules", [*rules_of(["wsd", "tma"], ["nft"]), *rules_of(["wsd"], ["nft"], granularity="coarse")], ids=name
)
def test_twenty_rows_a_task_against_five_test_rows_a_task(literal, how, rules):
    check(literal, select={"per_task": 20, "how": how}, test_per_task=5, **rules)


@pytest.mark.parametrize(
    ("fidelity", "similarity"), [("corrected", "cosine"), ("corrected", "euclidean"), ("paper", "euclidean")]
)
def test_transport_of_all_rows_is_that_of_pot(literal, fidelity, similarity):
    assert literal.cosine.size <= MAX_PAIRS
    check(literal, method="ot", order="nft", fidelity=fidelity, similarity=similarity)


@pytest.mark.parametrize("order", ["fft", "rt"])
def test_transport_has_the_other_orders_too(literal, order):
    part = Literal(literal.sample.rows(np.arange(0, 50_177, 10), np.arange(0, 1000, 4)))
    check(part, method="ot", order=order)
    check(part, method="ot", order=order, fidelity="paper", similarity="euclidean")
