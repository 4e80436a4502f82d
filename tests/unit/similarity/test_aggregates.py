"""Minimum, mean, maximum and argmin of distances against rational arithmetic and a plain float64 matrix."""

from fractions import Fraction

import numpy as np
import pytest

from nearfirst.contracts.problems import InvalidEmbeddings
from nearfirst.similarity.aggregates import distance_aggregates
from nearfirst.similarity.embeddings import normalise

QUANTUM = Fraction(1, 2**40)


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


def test_bits_do_not_depend_on_the_memory_budget():
    rng = np.random.default_rng(1)
    train, test = normalise(rng.normal(size=(257, 33))), normalise(rng.normal(size=(65, 33)))
    small = distance_aggregates(train, test, memory_budget_bytes=1)
    large = distance_aggregates(train, test)
    for name in ("minimum", "mean", "maximum", "nearest_test"):
        assert getattr(small, name).tobytes() == getattr(large, name).tobytes()


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
