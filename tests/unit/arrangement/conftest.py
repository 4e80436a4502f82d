"""Samples full of ties, and the literal version of every arrangement on them."""

import numpy as np
import pytest
from tests.support.literal_arrangement import (
    SHARED_DATA,
    Literal,
    Sample,
    distance_matrix,
    literal_rounds,
    load_p3,
    unit_rows,
)

from nearfirst.contracts.arrangements import ArrangementRules
from nearfirst_arrangement.methods import ArrangedOrder
from nearfirst_arrangement.methods import arrange as arrange_rows


def interleaved_tasks(rng: np.random.Generator, num_rows: int, num_tasks: int) -> np.ndarray:
    """Tasks of very different sizes, mixed, with codes that are not numbered by appearance."""
    return rng.choice(num_tasks, size=num_rows, p=np.arange(1, num_tasks + 1) / (num_tasks * (num_tasks + 1) / 2)) * 3


def tied_sample(seed: int, num_train: int = 80, num_test: int = 7) -> Sample:
    rng = np.random.default_rng(seed)
    train = rng.integers(-2, 3, size=(num_train, 3))
    test = rng.integers(-1, 2, size=(num_test, 3))
    for rows in (train, test):
        rows[(rows == 0).all(axis=1)] = 1
    tasks = interleaved_tasks(rng, num_train, 6), interleaved_tasks(rng, num_test, 3)
    return Sample(unit_rows(train), unit_rows(test), *tasks)


def smooth_sample(seed: int, num_train: int = 200, num_test: int = 11) -> Sample:
    rng = np.random.default_rng(seed)
    train, test = unit_rows(rng.normal(size=(num_train, 16))), unit_rows(rng.normal(size=(num_test, 16)))
    return Sample(train, test, interleaved_tasks(rng, num_train, 9), interleaved_tasks(rng, num_test, 4))


@pytest.fixture(params=["tied-0", "tied-1", "tied-2", "smooth-0"])
def sample(request: pytest.FixtureRequest) -> Sample:
    kind, seed = request.param.split("-")
    return tied_sample(int(seed)) if kind == "tied" else smooth_sample(int(seed))


@pytest.fixture
def smooth() -> Sample:
    return smooth_sample(3)


@pytest.fixture
def literal():
    return literal_rounds


@pytest.fixture
def matrix():
    return distance_matrix


@pytest.fixture
def unit():
    return unit_rows


@pytest.fixture
def arrange():
    """Rules as keywords, a sample -> the order."""

    def run(sample: Sample, *, budget: int = 2**30, **rules: object) -> ArrangedOrder:
        return arrange_rows(
            ArrangementRules(**rules),
            sample.train,
            sample.test,
            len(sample.train),
            train_tasks=sample.train_tasks,
            test_tasks=sample.test_tasks,
            memory_budget_bytes=budget,
        )

    return run


@pytest.fixture
def literal_order():
    """Rules as keywords, a sample -> the literal version's train rows in order."""

    def run(sample: Sample, **rules: object) -> list[int]:
        return Literal(sample).order(ArrangementRules(**rules))

    return run


@pytest.fixture(scope="session")
def p3() -> Sample:
    """Real P3: rows whose split isn't `test`, and the first 1,000 test rows, as unit rows."""
    found = load_p3()
    if found is None:
        pytest.skip(f"the P3 sample is not at {SHARED_DATA}")
    return found
