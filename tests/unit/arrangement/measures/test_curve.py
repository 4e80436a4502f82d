"""The similarity curve against a literal version: every prefix measured from nothing, in float64."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from nearfirst.contracts.arrangements import Fidelity
from nearfirst.contracts.problems import InvalidInput
from nearfirst.similarity.embeddings import normalise
from nearfirst_arrangement.measures.bigrams import bigram_kl
from nearfirst_arrangement.measures.curve import curve_points
from nearfirst_arrangement.measures.measure import measure_order

TOLERANCE = 1e-9
QUANTUM = 2.0**-40
MEASURES = ("avg", "min", "max", "centroid")


def literal_cosine(train, test):
    """Extremes within [-1, 1]: a float32 row can be longer than 1 by a rounding error."""
    distance = -(train @ test.T)
    one, other = train.mean(axis=0), test.mean(axis=0)
    centroid = -(one @ other) / np.linalg.norm(one) / np.linalg.norm(other)
    return distance.mean(), max(distance.min(), -1), min(distance.max(), 1), centroid


def literal_euclidean(train, test):
    """sqrt(2 - 2 s) of similarities rounded to the quantum: near s = 1 their last bits would show."""
    similarity = np.clip(np.round(train @ test.T / QUANTUM) * QUANTUM, -1, 1)
    distance = np.sqrt(2 - 2 * similarity)
    centroid = np.linalg.norm(train.mean(axis=0) - test.mean(axis=0))
    return distance.mean(), distance.min(), distance.max(), centroid


def literal_kl(train_texts, test_texts, weight=lambda bigram: 1):
    def counts(texts):
        return Counter(pair for text in texts for pair in pairwise(text.split()))

    def distribution(texts):
        number = counts(texts)
        total = number.total()
        return {bigram: count / total for bigram, count in number.items()}

    p, q = distribution(train_texts), distribution(test_texts)
    return sum(weight(b) * p[b] * np.log(p[b] / (q.get(b, 0) + 1e-10)) for b in p)


def check_against_literal(order, curve, places):
    vectors = order.vectors
    train = normalise(vectors.train)[vectors.index].astype(np.float64)
    test = normalise(vectors.test).astype(np.float64)
    for place in places:
        num_rows = curve.rows[place]
        for name, literal in (("cosine", literal_cosine), ("euclidean", literal_euclidean)):
            found = [getattr(getattr(curve, name), measure)[place] for measure in MEASURES]
            np.testing.assert_allclose(found, literal(train[:num_rows], test), atol=TOLERANCE, rtol=0)
        for part in curve.by_task:
            of_task = test[np.array(order.test.tasks) == part.task]
            assert part.num_test == len(of_task)
            found = [getattr(part.cosine, measure)[place] for measure in MEASURES]
            np.testing.assert_allclose(found, literal_cosine(train[:num_rows], of_task), atol=TOLERANCE, rtol=0)
        expected = literal_kl(order.train.texts[:num_rows], order.test.texts)
        assert curve.kl[place] == pytest.approx(expected, abs=TOLERANCE)


def test_all_nine_measures_of_every_prefix_equal_the_literal_version(order):
    curve = measure_order(order, rows_per_step=4, every_steps=5).curve
    assert curve.rows == [*range(20, len(order.train), 20), len(order.train)]
    assert {part.task for part in curve.by_task} == set(order.test.tasks)
    check_against_literal(order, curve, range(len(curve.rows)))


def test_real_prefixes_equal_the_literal_version(real_order):
    curve = measure_order(real_order).curve
    check_against_literal(real_order, curve, [0, 7, len(curve.rows) - 1])


def test_no_memory_budget_changes_a_number(order):
    assert measure_order(order, memory_budget_bytes=1) == measure_order(order)


def test_test_rows_in_several_blocks_change_no_number(order, monkeypatch):
    whole = measure_order(order)
    monkeypatch.setattr("nearfirst_arrangement.measures.pairs._MAX_TEST_BLOCK", 7)
    assert measure_order(order) == whole


def test_paper_fidelity_weighs_each_bigram_by_all_its_occurrences(order):
    """As the paper's code does, which sums over a list with every occurrence instead of the distinct bigrams."""
    found = measure_order(order, fidelity=Fidelity.PAPER).curve
    texts = [text.split() for text in [*order.train.texts, *order.test.texts]]
    occurrences = Counter(pair for words in texts for pair in pairwise(words))
    for num_rows, kl in zip(found.rows, found.kl, strict=True):
        expected = literal_kl(order.train.texts[:num_rows], order.test.texts, weight=occurrences.__getitem__)
        assert kl == pytest.approx(expected, abs=1e-8)
    assert found.fidelity is Fidelity.PAPER


def test_kl_of_a_hand_worked_example():
    """Prefix: "a b" twice of three bigrams, "b c" once; test: "a b" once of one."""
    found = bigram_kl(["a b", "a b c"], np.array([2]), ["a b"], Fidelity.CORRECTED, lambda *_: None)
    expected = 2 / 3 * np.log(2 / 3 / (1 + 1e-10)) + 1 / 3 * np.log(1 / 3 / 1e-10)
    assert found == [pytest.approx(expected, abs=1e-12)]


def test_kl_is_zero_when_a_prefix_has_the_test_sets_bigrams():
    found = bigram_kl(["a b c", "x"], np.array([1, 2]), ["b c", "a b"], Fidelity.CORRECTED, lambda *_: None)
    assert found == pytest.approx([0, 0], abs=1e-9)


def test_words_end_where_str_split_ends_them_and_no_bigram_crosses_texts():
    spaces = "".join(chr(code) for code in range(0x110000) if chr(code).isspace())
    odd = [f" a{space}b{space}{space}c " for space in spaces] + ["", spaces, "x\u200by z", "a b"]
    found = bigram_kl(odd, np.array([len(odd)]), ["c a", "b c"], Fidelity.CORRECTED, lambda *_: None)
    assert found == [pytest.approx(literal_kl(odd, ["c a", "b c"]), abs=1e-12)]


def test_kl_is_none_before_the_first_bigram_and_without_any_in_the_test_set():
    assert bigram_kl(["a", "", "a b"], np.array([2, 3]), ["a b"], Fidelity.CORRECTED, lambda *_: None) == [
        None,
        pytest.approx(0, abs=1e-9),
    ]
    assert bigram_kl(["a b"], np.array([1]), ["a", "b"], Fidelity.CORRECTED, lambda *_: None) is None


def test_points_are_every_ten_steps_of_sixteen_rows_and_the_whole_order():
    points = curve_points(481, rows_per_step=16, every_steps=10)
    assert points.rows.tolist() == [160, 320, 480, 481]
    assert points.steps == [10, 20, 30, 31]
    assert curve_points(320, rows_per_step=16, every_steps=10).rows.tolist() == [160, 320]
    assert curve_points(3, rows_per_step=16, every_steps=10).rows.tolist() == [3]


@pytest.mark.parametrize("num_rows", [160 * 256, 160 * 256 + 1, 50_177, 1_340_000])
def test_long_orders_are_measured_at_most_256_times(num_rows):
    points = curve_points(num_rows, rows_per_step=16, every_steps=10)
    assert len(points.rows) <= 256
    assert points.every_steps % 10 == 0
    assert set(np.diff(points.rows[:-1])) == {16 * points.every_steps}
    assert (points.every_steps == 10) == (num_rows <= 160 * 256)


@pytest.mark.parametrize("parameter", ["rows_per_step", "every_steps"])
def test_a_stride_below_one_is_refused_by_name(order, parameter):
    with pytest.raises(InvalidInput, match=f"{parameter}: got 0, wanted at least 1"):
        measure_order(order, **{parameter: 0})


def test_opposite_rows_have_a_centroid_without_direction_and_cosine_0(order, make_vectors):
    train = np.array([[1, 0], [-1, 0]], dtype=np.float32)
    pair = replace(
        order,
        train=replace(order.train, ids=["a", "b"], texts=["", ""], instructions=["", ""], tasks=None, truncated=None),
        vectors=make_vectors(train, np.array([0, 1]), normalise(np.ones((len(order.test), 2)))),
    )
    curve = measure_order(pair, rows_per_step=1, every_steps=1).curve
    assert curve.cosine.centroid == pytest.approx([-np.sqrt(0.5), 0])
    assert curve.euclidean.centroid[1] == pytest.approx(1, abs=1e-7)


def test_only_the_twenty_largest_test_tasks_have_curves_of_their_own(make_order):
    order = make_order(5, num_test=60)
    tasks = [f"t{row // 2}" for row in range(60)]
    tasks[50:53] = ["t29"] * 3
    curve = measure_order(replace(order, test=replace(order.test, tasks=tasks))).curve
    assert [part.task for part in curve.by_task] == ["t29", *(f"t{code}" for code in range(19))]
    assert [part.num_test for part in curve.by_task] == [5, *[2] * 19]
    with_all = measure_order(replace(order, test=replace(order.test, tasks=None))).curve
    assert with_all.by_task == []
    assert with_all.cosine == curve.cosine
