"""Training under a template other than the paper's."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nearfirst.contracts.training import ModelSpec, TemplateName
from nearfirst.data.dataset import load_dataset
from nearfirst.data.template import tokenize_example
from nearfirst_training.data import tokenize_rows
from nearfirst_training.job import TrainingJob
from nearfirst_training.loop import train

CHAT = (
    "{% for turn in messages %}<{{ turn.role }}>{{ turn.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer(model_folder: Path) -> Any:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    tokenizer.chat_template = CHAT
    return tokenizer


@pytest.mark.parametrize("template", ["paper", "alpaca", "chat"])
@pytest.mark.parametrize("chunk", [7, 40, 256])
def test_rows_tokenized_together_are_those_tokenized_one_by_one(
    train_file: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch, template: TemplateName, chunk: int
) -> None:
    monkeypatch.setattr("nearfirst_training.data._CHUNK", chunk)
    examples = load_dataset(train_file).examples
    told: list[int] = []
    rows = tokenize_rows(
        iter(examples), tokenizer, 12, template=template, progress=lambda done, total, unit: told.append(done)
    )
    singles = [tokenize_example(example, tokenizer, 12, template) for example in examples]
    assert [rows.row(number)[0].tolist() for number in range(len(rows))] == [row.input_ids.tolist() for row in singles]
    assert [rows.row(number)[1].tolist() for number in range(len(rows))] == [row.labels.tolist() for row in singles]
    assert rows.ids == [example.id for example in examples]
    assert rows.num_truncated == sum(row.is_truncated for row in singles) > 0
    assert told == [*range(chunk, len(examples), chunk), len(examples)]


@pytest.mark.parametrize("template", ["paper", "alpaca"])
def test_training_reads_the_tokens_of_its_template(
    make_job: Callable[..., TrainingJob],
    train_file: Path,
    test_file: Path,
    model_folder: Path,
    template: TemplateName,
) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    rows = [tokenize_example(example, tokenizer, 400, template) for example in load_dataset(train_file).examples]
    model = ModelSpec(name_or_path=str(model_folder), init="random", config={"max_position_embeddings": 512})
    result = train(make_job(model=model, template=template, max_length=400, test_examples=str(test_file)))
    assert result.num_tokens == sum(len(row.input_ids) for row in rows)
