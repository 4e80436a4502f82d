"""A tiny model, a small dataset and a job over them."""

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.support.tiny import make_tiny_llama

from nearfirst.contracts.training import ModelSpec, OptimizerSpec, TrainSettings
from nearfirst.data.dataset import load_dataset
from nearfirst.data.order import order_table, write_order
from nearfirst_training.job import TrainingJob

WORDS = ["red", "green", "blue", "seven", "eight", "apple", "pear", "house", "river", "stone", "sings", "near", "under"]
NUM_TRAIN, NUM_TEST = 40, 13


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _rows(seed: int, count: int, split: str) -> list[dict[str, Any]]:
    chance = random.Random(seed)
    return [
        {
            "id": f"{split}-{number}",
            "task": f"task{number % 3}",
            "turns": [
                {"role": "user", "content": " ".join(chance.choices(WORDS, k=chance.randint(3, 14)))},
                {"role": "assistant", "content": " ".join(chance.choices(WORDS, k=chance.randint(1, 6)))},
            ],
            "references": [],
            "meta": {},
        }
        for number in range(count)
    ]


def _write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    for row in rows:
        row["references"] = [row["turns"][1]["content"]]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def train_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write_rows(tmp_path_factory.mktemp("data") / "train.jsonl", _rows(1, NUM_TRAIN, "train"))


@pytest.fixture(scope="session")
def test_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write_rows(tmp_path_factory.mktemp("data") / "test.jsonl", _rows(2, NUM_TEST, "test"))


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = [" ".join(random.Random(3).choices(WORDS, k=2000))]
    return make_tiny_llama(
        tmp_path_factory.mktemp("model"), texts, vocab_size=300, hidden_size=32, layers=2, heads=2, max_length=128
    )


@pytest.fixture(scope="session")
def shuffled_order(tmp_path_factory: pytest.TempPathFactory, train_file: Path) -> Path:
    """All training rows but the first two, shuffled."""
    loaded = load_dataset(train_file)
    index = np.random.default_rng(5).permutation(np.arange(2, NUM_TRAIN, dtype=np.int64))
    path = tmp_path_factory.mktemp("order") / "order.jsonl"
    ids = [example.id for example in loaded.examples]
    tasks = [example.task for example in loaded.examples]
    write_order(path, order_table(loaded.digest, index, ids=ids, tasks=tasks))
    return path


JobFactory = Callable[..., TrainingJob]


@pytest.fixture
def make_job(tmp_path: Path, train_file: Path, model_folder: Path) -> JobFactory:
    """A job over the small dataset; keywords are fields of TrainingJob, or of its settings."""

    def make(**fields: Any) -> TrainingJob:
        given = {name: fields.pop(name) for name in list(fields) if name in TrainSettings.model_fields}
        settings = {
            "model": ModelSpec(name_or_path=str(model_folder), init="random"),
            "global_batch_size": 8,
            "max_length": 64,
            "optimizer": OptimizerSpec(lr=3e-3),
            "seed": 11,
        }
        defaults = {"train_examples": str(train_file), "out": str(tmp_path / "out")}
        return TrainingJob(settings=TrainSettings(**(settings | given)), **(defaults | fields))

    return make


@pytest.fixture
def read_lines() -> Callable[[Path], list[dict[str, Any]]]:
    return lambda path: [json.loads(line) for line in path.read_text().splitlines()]
