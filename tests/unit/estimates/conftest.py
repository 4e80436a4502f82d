"""A tiny Llama with its tokenizer, and rows of many lengths."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.tiny import make_tiny_llama

from nearfirst.contracts.training import ModelSpec, TrainSettings
from nearfirst.data.example import Example, Message

WORDS = ["red", "green", "blue", "seven", "apple", "house", "river", "sings", "near", "under"]


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = [" ".join(random.Random(3).choices(WORDS, k=2000))]
    return make_tiny_llama(
        tmp_path_factory.mktemp("model"), texts, vocab_size=300, hidden_size=32, layers=2, heads=2, max_length=128
    )


@pytest.fixture(scope="session")
def examples() -> list[Example]:
    chance = random.Random(7)
    return [
        Example(
            f"row-{number}",
            "task",
            (
                Message("user", " ".join(chance.choices(WORDS, k=chance.randint(1, 60)))),
                Message("assistant", " ".join(chance.choices(WORDS, k=chance.randint(1, 20)))),
            ),
            (),
        )
        for number in range(50)
    ]


@pytest.fixture
def make_settings(model_folder: Path) -> Callable[..., TrainSettings]:
    def make(**fields: Any) -> TrainSettings:
        model = ModelSpec(name_or_path=str(model_folder), init="random")
        return TrainSettings(**({"model": model, "global_batch_size": 8, "max_length": 64} | fields))

    return make
