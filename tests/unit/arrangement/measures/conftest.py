"""Small orders to measure, and real P3."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfirst.similarity.embeddings import normalise
from nearfirst_arrangement.measures.inputs import MeasuredOrder, MeasuredRows, RowVectors
from nearfirst_arrangement.measures.measure import Measures, measure_order

SHARED_DATA = Path(__file__).parents[5] / "shared" / "data"
WORDS = ["the", "a", "cat", "dog", "sat", "on", "mat", "Why", "how", "3", "éa", ",", "straße"]


def rows_of(num_rows: int, rng: np.random.Generator, prefix: str, num_tasks: int) -> MeasuredRows:
    """Rows with short texts over few words, so that bigrams and whole texts come again."""
    instructions = [" ".join(rng.choice(WORDS, size=rng.integers(1, 6))) for _ in range(num_rows)]
    answers = rng.choice(WORDS, size=num_rows)
    return MeasuredRows(
        ids=[f"{prefix}{i}" for i in range(num_rows)],
        texts=[f"{instruction} {answer}" for instruction, answer in zip(instructions, answers, strict=True)],
        instructions=instructions,
        tasks=[f"task-{code}" for code in rng.integers(0, num_tasks, size=num_rows)],
        truncated=rng.random(num_rows) < 0.3,
    )


def vectors_of(train: np.ndarray, index: np.ndarray, test: np.ndarray) -> RowVectors:
    """With nearest test rows from a float64 matrix, the lower row where two are equally near."""
    similarity = np.round(normalise(train)[index].astype(np.float64) @ normalise(test).astype(np.float64).T, 12)
    return RowVectors(train, index, test, similarity.argmax(axis=1), np.clip(similarity.max(axis=1), -1, 1))


def sample_order(seed: int, num_train: int = 700, num_test: int = 23, dimensions: int = 5) -> MeasuredOrder:
    """An order of half the train rows, many of them with equal embeddings, some equal to test rows."""
    rng = np.random.default_rng(seed)
    pool = rng.normal(size=(num_train // 2, dimensions)).astype(np.float32)
    train = pool[rng.integers(0, len(pool), size=num_train)]
    shared = pool[: num_test // 2]
    test = np.concatenate([shared, rng.normal(size=(num_test - len(shared), dimensions))])
    index = rng.permutation(num_train)[: num_train // 2 + 50]
    return MeasuredOrder(
        rows_of(len(index), rng, "train/", 31),
        rows_of(num_test, rng, "test/", 4),
        vectors_of(train, index, test.astype(np.float32)),
    )


@pytest.fixture(params=[0, 1])
def order(request: pytest.FixtureRequest) -> MeasuredOrder:
    return sample_order(request.param)


@pytest.fixture
def make_vectors() -> Callable[..., RowVectors]:
    return vectors_of


@pytest.fixture
def make_order() -> Callable[..., MeasuredOrder]:
    return sample_order


@pytest.fixture(scope="session")
def measured_p3() -> Measures:
    """5,000 rows of real P3 by distance to 500 test rows, measured."""
    order = p3_order(5_000, 500)
    return measure_order(order)


@pytest.fixture(scope="session")
def real_order() -> MeasuredOrder:
    return p3_order(3_000, 200)


def p3_order(num_train: int, num_test: int) -> MeasuredOrder:
    """Real rows, nearest first."""
    data, vectors = SHARED_DATA / "p3.jsonl.gz", SHARED_DATA / "p3_minilm_fp16.npy"
    if not (data.is_file() and vectors.is_file()):
        pytest.skip(f"the P3 sample is not at {SHARED_DATA}")
    with gzip.open(data, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    unit = normalise(np.load(vectors).astype(np.float32))
    rng = np.random.default_rng(0)
    is_test = np.array([row["split"] == "test" for row in rows])
    train = np.sort(rng.choice(np.flatnonzero(~is_test), num_train, replace=False))
    test = np.sort(rng.choice(np.flatnonzero(is_test), num_test, replace=False))
    nearest = (unit[train] @ unit[test].T).max(axis=1)
    index = np.argsort(-nearest, kind="stable")
    return MeasuredOrder(
        p3_rows([rows[i] for i in train[index]]),
        p3_rows([rows[i] for i in test]),
        vectors_of(unit[train], index, unit[test]),
    )


def p3_rows(rows: list[dict[str, Any]]) -> MeasuredRows:
    return MeasuredRows(
        ids=[row["id"] for row in rows],
        texts=[f"{row['inputs_pretokenized']} {row['targets_pretokenized']}" for row in rows],
        instructions=[row["inputs_pretokenized"] for row in rows],
        tasks=[row["task"] for row in rows],
    )
