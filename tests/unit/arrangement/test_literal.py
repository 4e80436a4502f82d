"""Every method x order x fidelity x similarity x granularity x selection equals its literal float64 version exactly."""

import itertools

import numpy as np
import pytest

SELECTIONS = [None, *({"per_task": 5, "how": how} for how in ("random", "first", "polar", "uniform"))]
FIDELITIES = ["corrected", "paper"]
SIMILARITIES = ["cosine", "euclidean"]
THREE_ORDERS = ["nft", "fft", "rt"]


def ranked(methods, orders, **more):
    """Rules of methods that take an order, in every fidelity and similarity that the contract allows together."""
    for method, order, fidelity, similarity in itertools.product(methods, orders, FIDELITIES, SIMILARITIES):
        if (method, fidelity, similarity) != ("ot", "paper", "cosine"):
            yield {"method": method, "order": order, "fidelity": fidelity, "similarity": similarity, **more}


EVERY_RULE = [
    *ranked(["wsd", "ot", "tma"], THREE_ORDERS),
    *ranked(["wsd"], THREE_ORDERS, granularity="coarse"),
    *ranked(["wsd", "ot", "tma"], THREE_ORDERS, limit=23),
    *ranked(["wsd"], THREE_ORDERS, granularity="coarse", limit=23),
    *ranked(["tma"], ["min", "max"], limit=23),
    *ranked(["tma"], THREE_ORDERS, limit=1),
    *ranked(["tma"], THREE_ORDERS, rounds=(1, 3)),
    *ranked(["tma"], THREE_ORDERS, rounds=(0, 2), limit=5),
    *({"method": method} for method in ("as_is", "random", "cluster", "round_robin")),
    *({"method": method, "limit": 23} for method in ("as_is", "random", "cluster", "round_robin")),
]


def name(rules):
    return "-".join(f"{value}".replace(" ", "") for value in rules.values())


@pytest.mark.parametrize("rules", EVERY_RULE, ids=name)
def test_the_order_is_the_literal_one(sample, arrange, literal_order, rules):
    assert arrange(sample, seed=3, **rules).index.tolist() == literal_order(sample, seed=3, **rules)


@pytest.mark.parametrize("test_per_task", [None, 2])
@pytest.mark.parametrize("select", SELECTIONS[1:], ids=name)
@pytest.mark.parametrize(
    "rules", [rules for rules in EVERY_RULE if "limit" not in rules and rules.get("order") != "rt"], ids=name
)
def test_the_order_of_selected_rows_is_the_literal_one(smooth, arrange, literal_order, rules, select, test_per_task):
    rules = {"seed": 3, "select": select, "test_per_task": test_per_task, **rules}
    assert arrange(smooth, **rules).index.tolist() == literal_order(smooth, **rules)


@pytest.mark.parametrize("select", SELECTIONS[1:], ids=name)
@pytest.mark.parametrize("fidelity", FIDELITIES)
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_selection_among_ties_is_the_literal_one(sample, arrange, literal_order, select, fidelity, similarity):
    rules = {"method": "as_is", "select": select, "fidelity": fidelity, "similarity": similarity, "seed": 8}
    assert arrange(sample, **rules).index.tolist() == literal_order(sample, **rules)


@pytest.mark.parametrize(("w_min", "w_avg"), [(1, 0), (0, 1), (0, -1), (0.5, 2), (1, -3.5), (1e6, 1e-6)])
@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize(
    "more", [{}, {"granularity": "coarse"}, {"select": SELECTIONS[3]}], ids=["fine", "coarse", "polar"]
)
def test_both_weights_are_free(sample, arrange, literal_order, w_min, w_avg, similarity, more):
    rules = {"method": "wsd", "order": "nft", "w_min": w_min, "w_avg": w_avg, "similarity": similarity, **more}
    assert arrange(sample, **rules).index.tolist() == literal_order(sample, **rules)


@pytest.mark.parametrize(
    "rules",
    [
        *ranked(["wsd", "tma"], ["nft", "fft"]),
        *ranked(["wsd"], ["nft"], granularity="coarse"),
        *ranked(["wsd"], ["nft"], select={"per_task": 7, "how": "uniform"}, test_per_task=5),
        *ranked(["wsd"], ["nft"], select={"per_task": 7, "how": "polar"}, granularity="coarse"),
        *ranked(["ot"], ["nft"], select={"per_task": 4, "how": "random"}, test_per_task=5),
        {"method": "round_robin", "select": {"per_task": 20, "how": "first"}},
        {"method": "cluster", "select": {"per_task": 20, "how": "first"}},
    ],
    ids=name,
)
def test_on_real_rows_the_order_is_the_literal_one(p3, arrange, literal_order, rules):
    rows = np.sort(np.random.default_rng(4).choice(len(p3.train), 1200, replace=False))
    part = p3.rows(rows, np.arange(0, 1000, 8))
    assert len(np.unique(part.train, axis=0)) < len(rows), "the sample has no ties: it shows nothing"
    assert arrange(part, **rules).index.tolist() == literal_order(part, **rules)
