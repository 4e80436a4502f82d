"""The bundled data is what its generator makes, and its test tasks are near their own domains only."""

import gzip
from collections import Counter, defaultdict

import numpy as np
import pytest
from numpy.typing import NDArray

from nearfirst.data.bundled import bundled_path
from nearfirst.data.bundled.domains import TASKS
from nearfirst.data.bundled.generate import generate_jsonl
from nearfirst.data.bundled.task import Draw
from nearfirst.data.dataset import load_dataset
from nearfirst.data.example import Example

DOMAIN = {task.name: task.domain for task in TASKS}


@pytest.fixture(scope="module")
def train() -> list[Example]:
    return load_dataset(bundled_path(), split="train").examples


@pytest.fixture(scope="module")
def unseen() -> list[Example]:
    return load_dataset(bundled_path(), split="test").examples


def texts(examples: list[Example]) -> list[str]:
    return [f"{example.turns[0].content} {example.turns[1].content}" for example in examples]


def test_the_generator_makes_the_committed_rows_byte_for_byte() -> None:
    assert gzip.decompress(bundled_path().read_bytes()) == generate_jsonl()


def test_the_file_is_small() -> None:
    assert bundled_path().stat().st_size < 1_000_000
    assert len(generate_jsonl()) < 1_000_000


def test_counts(train: list[Example], unseen: list[Example]) -> None:
    assert Counter(Counter(example.task for example in train).values()) == {40: 34}
    assert Counter(Counter(example.task for example in unseen).values()) == {24: 8}


def test_22_training_rows_are_exact_copies_and_no_test_row_is(train: list[Example], unseen: list[Example]) -> None:
    assert len(train) - len(set(texts(train))) == 22
    assert len(set(texts(unseen))) == len(unseen)
    assert not set(texts(train)) & set(texts(unseen))


def test_every_test_task_has_three_training_tasks_in_its_domain_and_no_test_task_beside_it() -> None:
    by_split: dict[str, Counter[str]] = defaultdict(Counter)
    for task in TASKS:
        by_split[task.split][task.domain] += 1
    assert set(by_split["test"].values()) == {1}
    assert {by_split["train"][domain] for domain in by_split["test"]} == {3}
    assert set((by_split["train"] - Counter(dict.fromkeys(by_split["test"], 3))).values()) == {1}


def test_test_rows_have_two_references_with_the_target_first(unseen: list[Example]) -> None:
    assert {len(example.references) for example in unseen} == {2}
    assert all(example.references[0] == example.turns[1].content for example in unseen)


def tfidf(documents: list[str], others: list[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """L2-normalised tf-idf rows of both lists over one vocabulary of lower-case words."""
    words = [Counter(document.lower().split()) for document in documents + others]
    columns = {word: i for i, word in enumerate(sorted(set().union(*words)))}
    counts = np.zeros((len(words), len(columns)))
    for row, found in enumerate(words):
        for word, count in found.items():
            counts[row, columns[word]] = count
    weighted = counts * np.log(len(words) / (counts > 0).sum(axis=0))
    weighted /= np.linalg.norm(weighted, axis=1, keepdims=True)
    return weighted[: len(documents)], weighted[len(documents) :]


def test_the_nearest_training_rows_by_words_are_of_the_same_domain(train: list[Example], unseen: list[Example]) -> None:
    train_ND, test_MD = tfidf(texts(train), texts(unseen))
    nearest_MK = np.argsort(-(test_MD @ train_ND.T), axis=1)[:, :20]
    same: dict[str, list[bool]] = defaultdict(list)
    for example, nearest in zip(unseen, nearest_MK, strict=True):
        same[example.task] += [DOMAIN[train[index].task] == DOMAIN[example.task] for index in nearest]
    shares = {task: float(np.mean(hits)) for task, hits in same.items()}
    assert min(shares.values()) > 0.85, shares
    assert np.mean(list(shares.values())) > 0.95, shares


def test_draws_stay_the_same_in_every_python_version() -> None:
    draw = Draw("seed")
    drawn = [draw.number(0, 99) for _ in range(4)], draw.some("abcdef", 3), draw.one(["x", "y", "z"])
    assert drawn == ([13, 23, 86, 28], ["a", "f", "d"], "y")
