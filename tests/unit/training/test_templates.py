"""Training under a template other than the paper's."""

from collections.abc import Callable
from pathlib import Path

import pytest

from nearfirst.contracts.training import ModelSpec, TemplateName
from nearfirst.data.dataset import load_dataset
from nearfirst.data.template import tokenize_example
from nearfirst_training.job import TrainingJob
from nearfirst_training.loop import train


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
