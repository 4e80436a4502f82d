"""Tokens, against transformers' tokenizer and against literal sums; samples against many draws of themselves."""

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nearfirst.contracts.training import TrainSettings
from nearfirst.data.example import Example
from nearfirst.data.template import tokenize_example
from nearfirst.estimates.rows import count_tokens_of
from nearfirst.estimates.tokens import MAX_EXACT_ROWS, SAMPLED_ROWS, count_tokens

Make = Callable[..., TrainSettings]


def lengths_by_transformers(folder: Path, examples: list[Example], max_length: int, template: Any) -> list[int]:
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return [len(tokenize_example(example, tokenizer, max_length, template).input_ids) for example in examples]


@pytest.mark.parametrize("template", ["paper", "alpaca"])
def test_tokens_are_those_that_training_reads(
    model_folder: Path, examples: list[Example], make_settings: Make, template: str
) -> None:
    lengths = lengths_by_transformers(model_folder, examples, 64, template)
    remarks: list[str] = []
    index = np.arange(len(examples))[::-1].copy()
    found = count_tokens_of(examples, index, 50, make_settings(template=template), remarks)
    assert found is not None
    assert (found.tokens, found.is_exact, found.num_rows_read) == (sum(lengths), True, 50)
    assert (found.longest_row, max(lengths)) == (64, 64)
    assert remarks == []


def test_epochs_repeat_the_order_and_the_last_step_may_be_short(examples: list[Example], make_settings: Make) -> None:
    length_R = [10, 20, 30, 40, 50]
    settings = make_settings(global_batch_size=4, micro_batch_size=1)
    found = count_tokens(np.array([4, 0, 2]), 3 * 2 + 1, settings, length_R.__getitem__)
    assert found.tokens == (50 + 10 + 30) * 2 + 50
    assert found.padded_tokens == found.tokens  # a row alone is never padded
    assert (found.num_rows_read, found.longest_row, found.largest_pass) == (3, 50, 50)


def test_padding_is_that_of_each_ranks_forward_passes(make_settings: Make) -> None:
    length_R = [900, 10, 800, 30, 700, 20]
    settings = make_settings(global_batch_size=6, processes=2, micro_batch_size=3)
    found = count_tokens(np.arange(6), 6, settings, length_R.__getitem__)
    # Rank 0 has 900, 800, 700 and rank 1 has 10, 30, 20: a pass each is cheaper than more passes with less padding.
    assert found.padded_tokens == 3 * 900 + 3 * 30
    assert found.largest_pass == 2700
    paper = count_tokens(
        np.arange(6),
        6,
        make_settings(global_batch_size=6, micro_batch_size=2, fidelity="paper"),
        length_R.__getitem__,
    )
    assert paper.padded_tokens == 2 * 900 + 2 * 800 + 2 * 700


def test_a_long_job_on_few_rows_is_still_counted_exactly(make_settings: Make) -> None:
    settings = make_settings(global_batch_size=2, max_steps=10**6)
    found = count_tokens(np.arange(3), 2 * 10**6, settings, [5, 6, 7].__getitem__)
    assert found.is_exact
    assert found.tokens == (2 * 10**6 // 3) * 18 + 5 + 6
    assert found.padded_tokens is not None
    assert found.padded_tokens == pytest.approx(found.tokens * 20 / 18, rel=0.01)


@pytest.fixture(scope="module")
def long_lengths() -> list[int]:
    """Lengths of 20,000 rows whose neighbours are alike."""
    chance = np.random.default_rng(5)
    tasks = np.repeat(chance.integers(20, 900, 500), 40)
    return [int(length) for length in np.maximum(1, tasks + chance.integers(-15, 15, len(tasks)))]


@pytest.mark.parametrize("batch", [16, 4096])
def test_a_sample_is_right_within_its_standard_error(make_settings: Make, long_lengths: list[int], batch: int) -> None:
    total = sum(long_lengths)
    found = [
        count_tokens(
            np.arange(20_000), 20_000, make_settings(global_batch_size=batch, seed=seed), long_lengths.__getitem__
        )
        for seed in range(20)
    ]
    for each in found:
        assert not each.is_exact
        assert each.num_rows_read == SAMPLED_ROWS < MAX_EXACT_ROWS
        assert each.standard_error is not None
        assert (each.padded_tokens is None) == (batch == 4096)  # rows of such steps are drawn one by one
    errors = [(each.tokens - total) / (each.standard_error or 0) for each in found]
    assert 0.5 < statistics.pstdev(errors) < 1.6
    assert abs(statistics.fmean(errors)) < 0.8


def test_the_same_seed_draws_the_same_sample(make_settings: Make, long_lengths: list[int]) -> None:
    draws = [count_tokens(np.arange(20_000), 20_000, make_settings(seed=3), long_lengths.__getitem__) for _ in range(2)]
    assert draws[0] == draws[1]


def test_without_a_tokenizer_tokens_are_not_known(tmp_path: Path, examples: list[Example], make_settings: Make) -> None:
    settings = make_settings(model={"name_or_path": str(tmp_path), "init": "random"})
    remarks: list[str] = []
    assert count_tokens_of(examples, np.arange(50), 50, settings, remarks) is None
    assert "no tokenizer.json that can be read here" in remarks[0]


def test_a_damaged_tokenizer_is_none(tmp_path: Path, examples: list[Example], make_settings: Make) -> None:
    (tmp_path / "tokenizer.json").write_text("{")
    settings = make_settings(model={"name_or_path": str(tmp_path), "init": "random"})
    assert count_tokens_of(examples, np.arange(50), 50, settings, []) is None


def test_under_a_chat_template_the_count_says_that_it_is_the_papers(
    examples: list[Example], make_settings: Make
) -> None:
    remarks: list[str] = []
    found = count_tokens_of(examples, np.arange(50), 50, make_settings(template="chat"), remarks)
    assert found is not None
    assert not found.is_exact
    assert remarks == ["tokens are counted under template paper: the chat template is rendered by training only"]
