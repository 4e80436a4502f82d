"""Minimum, mean, maximum and argmin of distances against rational arithmetic and exact products of all pairs."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearfirst.contracts.arrangements import Similarity
from nearfirst.contracts.problems import InvalidEmbeddings
from nearfirst.similarity.aggregates import DistanceAggregates, distance_aggregates
from nearfirst.similarity.embeddings import normalise
from nearfirst.similarity.exact import exact_similarities, split_rows

QUANTUM = Fraction(1, 2**40)
FIELDS = ("minimum", "mean", "maximum", "nearest_test")


def quantised(value: Fraction) -> Fraction:
    return round(value / QUANTUM) * QUANTUM


@pytest.mark.parametrize("budget", [1, 3_000, 2**30])
def test_equals_rational_arithmetic_whatever_the_memory_budget(tied_rows, rational_dot, budget):
    train, test = normalise(tied_rows.train), normalise(tied_rows.test)
    found = distance_aggregates(train, test, memory_budget_bytes=budget)
    for i, row in enumerate(train):
        exact = [-rational_dot(row, other) for other in test]
        distances = [quantised(distance) for distance in exact]
        assert found.minimum[i] == float(min(distances))
        assert found.maximum[i] == float(max(distances))
        assert found.nearest_test[i] == distances.index(min(distances))
        assert found.mean[i] == pytest.approx(float(sum(exact) / len(exact)), rel=1e-15, abs=1e-15)


def test_equals_a_float64_matrix_on_real_sized_rows():
    rng = np.random.default_rng(0)
    train, test = normalise(rng.normal(size=(300, 384))), normalise(rng.normal(size=(70, 384)))
    distance = -(train.astype(np.float64) @ test.astype(np.float64).T)
    found = distance_aggregates(train, test, memory_budget_bytes=200_000)
    np.testing.assert_allclose(found.minimum, distance.min(axis=1), atol=1e-12)
    np.testing.assert_allclose(found.mean, distance.mean(axis=1), atol=1e-12)
    np.testing.assert_allclose(found.maximum, distance.max(axis=1), atol=1e-12)
    np.testing.assert_array_equal(found.nearest_test, distance.argmin(axis=1))


def test_rows_whose_means_are_equal_stay_equal():
    """Equal sums of different similarities: rounding each to the quantum first would tell some of them apart."""
    rng = np.random.default_rng(2)
    train = normalise(rng.integers(-2, 3, size=(500, 3)) + np.array([0, 0, 0.5]))
    test = normalise(np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1]]))
    mean = distance_aggregates(train, test).mean
    for third in np.unique(train[:, 2]):
        assert len(set(mean[train[:, 2] == third].tolist())) == 1


def same_bits(left, right):
    return all(getattr(left, name).tobytes() == getattr(right, name).tobytes() for name in FIELDS)


@pytest.mark.parametrize("similarity", list(Similarity))
@pytest.mark.parametrize("budget", [1, 100_000, 2**30])
@pytest.mark.parametrize("num_threads", [1, 2, 4])
def test_bits_depend_on_neither_threads_nor_budget_nor_shards(crowded, threads, similarity, budget, num_threads):
    train, test = crowded(1, num_train=90)
    expected = distance_aggregates(train, test, similarity=similarity)
    with threads(num_threads):
        options = {"similarity": similarity, "memory_budget_bytes": budget}
        assert same_bits(distance_aggregates(train, test, **options), expected)
        shards = [distance_aggregates(part, test, **options) for part in (train[:13], train[13:50], train[50:])]
    joined = DistanceAggregates(*(np.concatenate([getattr(shard, name) for shard in shards]) for name in FIELDS))
    assert same_bits(joined, expected)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**16), num_test=st.integers(1, 40), dimensions=st.integers(1, 40))
def test_rows_that_float32_cannot_tell_apart_equal_the_exact_products(seed, num_test, dimensions):
    rng = np.random.default_rng(seed)
    centre = rng.normal(size=(2, dimensions))
    near = [
        normalise(centre[rng.integers(0, 2, count)] * (1 + rng.integers(-2, 3, (count, dimensions)) * 2.0**-23))
        for count in (50, num_test)
    ]
    exact = exact_similarities(*(split_rows(rows) for rows in near))
    found = distance_aggregates(*near)
    np.testing.assert_array_equal(found.minimum, -exact.max(axis=1) + 0.0)
    np.testing.assert_array_equal(found.maximum, -exact.min(axis=1) + 0.0)
    np.testing.assert_array_equal(found.nearest_test, exact.argmax(axis=1))


def test_euclidean_distances_are_those_of_the_exact_similarities(crowded, similarity_matrix):
    train, test = crowded(2)
    distance = np.sqrt(np.maximum(2 - 2 * similarity_matrix(train, test), 0))
    quanta = np.rint(distance * 2.0**40).astype(np.int64)
    found = distance_aggregates(train, test, similarity=Similarity.EUCLIDEAN)
    np.testing.assert_array_equal(found.minimum, quanta.min(axis=1) / 2.0**40)
    np.testing.assert_array_equal(found.maximum, quanta.max(axis=1) / 2.0**40)
    np.testing.assert_array_equal(found.nearest_test, similarity_matrix(train, test).argmax(axis=1))
    true_mean = [Fraction(int(row.sum()), 2**40 * len(test)) for row in quanta]
    assert found.mean.tolist() == [float(mean) for mean in true_mean]


def test_the_maximum_can_be_left_out(crowded):
    train, test = crowded(3)
    without, whole = distance_aggregates(train, test, with_maximum=False), distance_aggregates(train, test)
    assert np.isnan(without.maximum).all()
    for name in ("minimum", "mean", "nearest_test"):
        assert getattr(without, name).tobytes() == getattr(whole, name).tobytes()


def test_copies_of_a_test_row_count_in_the_mean_and_the_first_is_the_nearest():
    train = normalise(np.array([[1.0, 0.0], [0.0, 1.0]]))
    test = normalise(np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]))
    found = distance_aggregates(train, test)
    assert found.nearest_test.tolist() == [1, 0]
    assert found.mean.tolist() == [-0.75, -0.25]


def test_more_test_rows_than_a_block_holds(similarity_matrix):
    rng = np.random.default_rng(4)
    train, test = normalise(rng.normal(size=(40, 6))), normalise(rng.normal(size=(4500, 6)))
    similarity = similarity_matrix(train, test)
    found = distance_aggregates(train, test)
    np.testing.assert_array_equal(found.minimum, -similarity.max(axis=1))
    np.testing.assert_array_equal(found.maximum, -similarity.min(axis=1))
    np.testing.assert_array_equal(found.nearest_test, similarity.argmax(axis=1))


def test_chosen_rows_come_in_the_order_asked_for(tied_rows):
    train, test = normalise(tied_rows.train), normalise(tied_rows.test)
    rows = np.array([5, 3, 40, 3])
    whole, part = distance_aggregates(train, test), distance_aggregates(train, test, rows=rows)
    np.testing.assert_array_equal(part.minimum, whole.minimum[rows])
    np.testing.assert_array_equal(part.nearest_test, whole.nearest_test[rows])


def test_a_memory_mapped_file_gives_the_same(tmp_path, tied_rows):
    train, test = normalise(tied_rows.train), normalise(tied_rows.test)
    np.save(tmp_path / "train.npy", train)
    mapped = np.load(tmp_path / "train.npy", mmap_mode="r")
    np.testing.assert_array_equal(distance_aggregates(mapped, test).mean, distance_aggregates(train, test).mean)


def test_progress_reaches_its_total_and_can_stop_the_work(tied_rows):
    train, test = normalise(tied_rows.train), normalise(tied_rows.test)
    seen = []
    distance_aggregates(train, test, memory_budget_bytes=2_000, progress=lambda *call: seen.append(call))
    assert seen[-1][0] == seen[-1][1]
    assert [done for done, _, _ in seen] == sorted({done for done, _, _ in seen})

    def stop(done, total, unit):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        distance_aggregates(train, test, progress=stop)


def test_train_and_test_of_different_widths_are_refused():
    with pytest.raises(InvalidEmbeddings, match="3 dimensions"):
        distance_aggregates(np.eye(3, dtype=np.float32), np.eye(2, dtype=np.float32))
