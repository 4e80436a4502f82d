"""The paper's arrangement, written out literally on a float64 matrix: what the methods are compared with."""

import gzip
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from nearfirst.contracts.arrangements import ArrangementRules
from nearfirst_arrangement.methods import ArrangedOrder
from nearfirst_arrangement.methods import arrange as arrange_rows

SHARED_DATA = Path(__file__).parents[4] / "shared" / "data"
QUANTUM = 2.0**-40


def unit_rows(rows: npt.ArrayLike) -> npt.NDArray[np.float32]:
    single = np.asarray(rows, dtype=np.float32)
    return single / np.linalg.norm(single, axis=1, keepdims=True)


def distance_matrix(train: npt.NDArray[np.float32], test: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """-cosine in float64, rounded to the quantum; identical rows share one computed row."""
    train_rows, train_of = np.unique(train, axis=0, return_inverse=True)
    test_rows, test_of = np.unique(test, axis=0, return_inverse=True)
    product = train_rows.astype(np.float64) @ test_rows.astype(np.float64).T
    return (-np.rint(product / QUANTUM) * QUANTUM)[train_of][:, test_of]


def literal_rounds(distance: npt.NDArray[np.float64], limit: int | None = None) -> list[list[int]]:
    """argmin over the remaining rows of every test column, the union, rows marked; until `limit` rows or all."""
    work = distance.copy()
    marked = work.max() + 1
    rounds: list[list[int]] = []
    count = 0
    while count < (limit or len(work)):
        chosen = np.unique(work.argmin(axis=0))
        work[chosen] = marked
        rounds.append(chosen.tolist())
        count += len(chosen)
    return rounds


class Sample(NamedTuple):
    train: npt.NDArray[np.float32]
    test: npt.NDArray[np.float32]

    @property
    def distance(self) -> npt.NDArray[np.float64]:
        return distance_matrix(self.train, self.test)


def tied_sample(seed: int, num_train: int = 80, num_test: int = 7) -> Sample:
    rng = np.random.default_rng(seed)
    train = rng.integers(-2, 3, size=(num_train, 3))
    test = rng.integers(-1, 2, size=(num_test, 3))
    for rows in (train, test):
        rows[(rows == 0).all(axis=1)] = 1
    return Sample(unit_rows(train), unit_rows(test))


def smooth_sample(seed: int, num_train: int = 200, num_test: int = 11) -> Sample:
    rng = np.random.default_rng(seed)
    return Sample(unit_rows(rng.normal(size=(num_train, 16))), unit_rows(rng.normal(size=(num_test, 16))))


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
            ArrangementRules(**rules), sample.train, sample.test, len(sample.train), memory_budget_bytes=budget
        )

    return run


@pytest.fixture(scope="session")
def p3() -> Sample:
    """Real P3: rows whose split isn't `test`, and the first 1,000 test rows, as unit rows."""
    data, vectors = SHARED_DATA / "p3.jsonl.gz", SHARED_DATA / "p3_minilm_fp16.npy"
    if not (data.is_file() and vectors.is_file()):
        pytest.skip(f"the P3 sample is not at {SHARED_DATA}")
    with gzip.open(data, "rt", encoding="utf-8") as file:
        is_test = np.array([json.loads(line)["split"] == "test" for line in file])
    rows = unit_rows(np.load(vectors))
    return Sample(rows[~is_test], rows[is_test][:1000])
