"""The way in: every method is registered, and what can't be arranged is refused by name."""

import numpy as np
import pytest
from pydantic import ValidationError

from nearfirst.contracts.arrangements import ArrangementRules, Method
from nearfirst.contracts.problems import InvalidEmbeddings, InvalidInput
from nearfirst.similarity.aggregates import DistanceAggregates, distance_aggregates
from nearfirst_arrangement.methods import METHODS, Precomputed
from nearfirst_arrangement.methods import arrange as arrange_rows

AS_IS = ArrangementRules(method="as_is")
WSD = ArrangementRules(method="wsd", order="nft")
COARSE = ArrangementRules(method="wsd", order="nft", granularity="coarse")


def test_every_method_of_the_contract_is_registered():
    assert set(METHODS) == set(Method)


def test_as_is_and_random_need_no_embeddings():
    assert arrange_rows(AS_IS, None, None, 4).index.tolist() == [0, 1, 2, 3]
    shuffled = arrange_rows(ArrangementRules(method="random", seed=7), None, None, 100)
    assert sorted(shuffled.index.tolist()) == list(range(100)) != shuffled.index.tolist()
    assert shuffled.nearest_test is None


def test_a_seed_gives_this_shuffle_on_every_machine():
    """PCG64's bit stream is numpy's stable interface; the numbers are those of the reference generator."""
    shuffled = arrange_rows(ArrangementRules(method="random", seed=0), None, None, 8).index.tolist()
    draws = [int(np.random.PCG64(0).advance(k).random_raw()) for k in range(8)]
    assert shuffled == sorted(range(8), key=draws.__getitem__)


def test_as_is_with_embeddings_tells_the_nearest_test_row(sample, arrange):
    arranged = arrange(sample, method="as_is", limit=10)
    assert arranged.nearest_test.tolist() == sample.distance[:10].argmin(axis=1).tolist()


def test_raw_vectors_of_any_length_are_normalised_first(sample):
    scaled = sample.train * np.linspace(0.5, 40, len(sample.train), dtype=np.float32)[:, None]
    arranged = arrange_rows(WSD, scaled, sample.test * 3, len(scaled))
    np.testing.assert_allclose(arranged.nearest_similarity, -sample.distance.min(axis=1)[arranged.index], atol=1e-6)


def test_memory_mapped_vectors_give_the_same_order(sample, tmp_path):
    np.save(tmp_path / "train.npy", sample.train)
    mapped = np.load(tmp_path / "train.npy", mmap_mode="r")
    from_map = arrange_rows(WSD, mapped, sample.test, len(mapped))
    from_memory = arrange_rows(WSD, sample.train, sample.test, len(mapped))
    assert from_map.index.tolist() == from_memory.index.tolist()


@pytest.mark.parametrize(
    "rules", [AS_IS, ArrangementRules(method="random"), WSD, ArrangementRules(method="tma", order="rt")]
)
def test_a_limit_above_the_pool_is_refused_with_both_numbers(sample, rules):
    size = len(sample.train)
    with pytest.raises(InvalidInput, match=f"limit: got {size + 1}, wanted at most {size}"):
        arrange_rows(rules.model_copy(update={"limit": size + 1}), sample.train, sample.test, size)


def test_nan_is_refused_with_its_side_and_row(sample):
    broken = sample.test.copy()
    broken[3, 0] = np.nan
    with pytest.raises(InvalidEmbeddings, match="test_embeddings: row 3 has NaN"):
        arrange_rows(WSD, sample.train, broken, len(sample.train))


def test_other_widths_are_refused_with_both(sample):
    with pytest.raises(InvalidEmbeddings, match=rf"{sample.train.shape[1]} dimensions .* have 2:"):
        arrange_rows(WSD, sample.train, sample.test[:, :2] + 1, len(sample.train))


def test_a_number_of_vectors_that_is_not_that_of_rows_is_refused(sample):
    with pytest.raises(InvalidEmbeddings, match=f"got {len(sample.train)} rows, wanted 5"):
        arrange_rows(WSD, sample.train, sample.test, 5)


@pytest.mark.parametrize(("train", "test", "missing"), [(None, 1, "train"), (1, None, "test")])
def test_one_side_alone_is_refused(sample, train, test, missing):
    with pytest.raises(InvalidInput, match=f"{missing}_embeddings: got none"):
        arrange_rows(WSD, train and sample.train, test and sample.test, len(sample.train))


def test_methods_that_rank_by_similarity_ask_for_embeddings():
    with pytest.raises(InvalidInput, match="train_embeddings and test_embeddings: got none"):
        arrange_rows(WSD, None, None, 3)


def test_an_empty_pool_is_refused():
    with pytest.raises(InvalidInput, match="num_train: got 0"):
        arrange_rows(AS_IS, None, None, 0)


BY_TASK = [
    (COARSE, "granularity coarse"),
    (ArrangementRules(method="round_robin"), "method round_robin"),
    (ArrangementRules(method="cluster"), "method cluster"),
    (ArrangementRules(method="tma", order="rt", select={"per_task": 3, "how": "first"}), "select 3 first per task"),
]


@pytest.mark.parametrize(("rules", "asking"), BY_TASK)
def test_rules_that_go_by_task_are_refused_without_tasks(sample, rules, asking):
    with pytest.raises(InvalidInput, match=f"train_tasks: got none; {asking} wants the task of each train row"):
        arrange_rows(rules, sample.train, sample.test, len(sample.train))


def test_test_per_task_is_refused_without_tasks_of_the_test_rows(sample):
    rules = ArrangementRules(method="as_is", test_per_task=5)
    with pytest.raises(InvalidInput, match="test_tasks: got none; test_per_task 5 wants the task of each test row"):
        arrange_rows(rules, sample.train, sample.test, len(sample.train))
    assert arrange_rows(rules, None, None, 3).index.tolist() == [0, 1, 2], "there are no test rows to choose from"


@pytest.mark.parametrize("side", ["train", "test"])
@pytest.mark.parametrize("tasks", [np.zeros(5, np.int64), np.zeros((2, 2), np.int64), np.zeros(7)])
def test_tasks_that_are_not_one_integer_a_row_are_refused(sample, side, tasks):
    part = sample.rows(np.arange(7), np.arange(7))
    with pytest.raises(InvalidInput, match=f"{side}_tasks: got shape .*, wanted 7 integers, one a row"):
        arrange_rows(AS_IS, part.train, part.test, 7, **{f"{side}_tasks": tasks})


def test_the_codes_of_tasks_say_nothing_but_which_rows_belong_together(sample, arrange):
    renamed = sample._replace(train_tasks=100 - sample.train_tasks, test_tasks=-sample.test_tasks)
    for rules in (
        {"method": "round_robin", "select": {"per_task": 4, "how": "random"}},
        {"method": "wsd", "order": "nft", "granularity": "coarse", "test_per_task": 2},
    ):
        assert arrange(renamed, **rules).index.tolist() == arrange(sample, **rules).index.tolist()


def test_round_robin_takes_one_row_of_each_task_in_turn_and_cluster_all_of_one():
    tasks = np.array([7, 7, 1, 7, 4, 1])
    order = {
        method: arrange_rows(ArrangementRules(method=method), None, None, 6, train_tasks=tasks).index.tolist()
        for method in ("round_robin", "cluster")
    }
    assert order == {"round_robin": [0, 2, 4, 1, 5, 3], "cluster": [0, 1, 3, 2, 5, 4]}


def reversed_aggregates(sample):
    """Not what the rows say: whoever uses them shows it."""
    true = distance_aggregates(sample.train, sample.test)
    return DistanceAggregates(-true.minimum, -true.mean, -true.maximum, true.nearest_test)


def test_precomputed_aggregates_are_used_while_neither_side_is_cut_down(sample, arrange):
    known = Precomputed(aggregates=reversed_aggregates(sample))
    tasks = {"train_tasks": sample.train_tasks, "test_tasks": sample.test_tasks, "precomputed": known}
    size = len(sample.train)
    used = arrange_rows(WSD.model_copy(update={"w_avg": 0.0}), sample.train, sample.test, size, **tasks)
    assert used.score.tolist() == sorted((-sample.distance.min(axis=1)).tolist())
    for rules in (
        ArrangementRules(method="wsd", order="nft", select={"per_task": 9, "how": "first"}),
        ArrangementRules(method="wsd", order="nft", test_per_task=1),
        ArrangementRules(method="wsd", order="nft", similarity="euclidean"),
    ):
        found = arrange_rows(rules, sample.train, sample.test, size, **tasks)
        expected = arrange(sample, **rules.model_dump())
        assert found.index.tolist() == expected.index.tolist()
        assert found.score.tolist() == expected.score.tolist()


def test_precomputed_aggregates_of_other_rows_are_refused(sample):
    known = Precomputed(aggregates=distance_aggregates(sample.train[:9], sample.test))
    with pytest.raises(InvalidInput, match=f"aggregates of 9 rows, wanted {len(sample.train)}"):
        arrange_rows(WSD, sample.train, sample.test, len(sample.train), precomputed=known)


EVERY_METHOD = [
    WSD,
    COARSE,
    ArrangementRules(method="wsd", order="rt", similarity="euclidean"),
    ArrangementRules(method="tma", order="nft"),
    ArrangementRules(method="ot", order="fft"),
    ArrangementRules(method="round_robin"),
    ArrangementRules(method="cluster", select={"per_task": 4, "how": "polar"}),
    ArrangementRules(method="random", test_per_task=2),
    AS_IS,
]


@pytest.mark.parametrize("rules", EVERY_METHOD)
def test_every_row_tells_its_nearest_test_row_by_cosine(sample, arrange, rules):
    arranged = arrange(sample, **rules.model_dump())
    tests = np.arange(len(sample.test))
    if rules.test_per_task is not None:
        seen = sample.test_tasks.tolist()
        tests = np.array([row for row in tests if seen[:row].count(seen[row]) < rules.test_per_task])
    distance = sample.distance[arranged.index][:, tests]
    assert arranged.nearest_test.tolist() == tests[distance.argmin(axis=1)].tolist()
    assert arranged.nearest_similarity.tolist() == np.clip(-distance.min(axis=1), -1, 1).tolist()
    assert arranged.report["num_pool"] == len(arranged.index)
    assert arranged.report["num_test"] == len(tests)


@pytest.mark.parametrize("rules", EVERY_METHOD)
def test_no_method_depends_on_the_memory_budget(sample, arrange, rules):
    small, large = arrange(sample, budget=1, **rules.model_dump()), arrange(sample, **rules.model_dump())
    for name in ("index", "score", "nearest_test", "nearest_similarity"):
        if getattr(large, name) is not None:
            assert getattr(small, name).tobytes() == getattr(large, name).tobytes()
    assert small.report == large.report


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2e6])
@pytest.mark.parametrize("weight", ["w_min", "w_avg"])
def test_weights_that_are_no_numbers_or_too_large_are_refused_by_the_contract(weight, value):
    with pytest.raises(ValidationError, match=weight):
        ArrangementRules(method="wsd", order="nft", **{weight: value})


def test_two_weights_of_zero_are_refused_by_the_contract():
    with pytest.raises(ValidationError, match="w_min and w_avg are both 0"):
        ArrangementRules(method="wsd", order="nft", w_min=0, w_avg=0)


@pytest.mark.parametrize("rules", [WSD, ArrangementRules(method="tma", order="nft")])
def test_progress_can_stop_the_work(sample, rules):
    def stop(done, total, unit):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        arrange_rows(rules, sample.train, sample.test, len(sample.train), progress=stop)
