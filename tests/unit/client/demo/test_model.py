import json

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from nearfirst.client.demo.model import BuiltModel, ModelShape, build_model

TEXTS = [f"Translate the number {number} into words, then add {number % 7}." for number in range(200)]
SHAPE = ModelShape(vocab_size=400, max_length=64)


@pytest.fixture
def model(tmp_path) -> BuiltModel:
    return build_model(tmp_path, TEXTS, SHAPE)


@pytest.mark.parametrize("text", ["Translate the number 12", " two  spaces\n\ttab ", "naïve 東京 🙂", "a</b> s>"])
def test_transformers_loads_the_tokenizer_and_every_text_round_trips(model, text):
    tokenizer = AutoTokenizer.from_pretrained(model.folder)
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.decode(ids) == text


def test_pieces_are_tokenized_without_special_tokens_and_the_three_are_known(model):
    tokenizer = AutoTokenizer.from_pretrained(model.folder)
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == ("<s>", "</s>", "<pad>")
    assert not set(tokenizer.all_special_ids) & set(tokenizer.encode("some text", add_special_tokens=False))


def test_transformers_builds_the_model_with_the_parameters_that_are_reported(model):
    config = AutoConfig.from_pretrained(model.folder)
    built = AutoModelForCausalLM.from_config(config)
    assert type(built).__name__ == "LlamaForCausalLM"
    assert sum(parameter.numel() for parameter in built.parameters()) == model.num_parameters
    assert built.get_input_embeddings().weight is not built.get_output_embeddings().weight
    tokenizer = AutoTokenizer.from_pretrained(model.folder)
    ids = torch.tensor([tokenizer.encode("Translate the number 12")])
    assert built(ids).logits.shape == (*ids.shape, len(tokenizer))
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (
        tokenizer.bos_token_id,
        tokenizer.eos_token_id,
        tokenizer.pad_token_id,
    )


def test_the_default_model_has_one_to_five_million_parameters():
    assert 1e6 < ModelShape().num_parameters(ModelShape().vocab_size) < 5e6


def test_the_same_texts_give_the_same_folder_and_bytes_and_others_another_folder(model, tmp_path):
    files = {path.name: path.read_bytes() for path in model.folder.iterdir()}
    again = build_model(tmp_path / "elsewhere", TEXTS, SHAPE)
    assert again.folder.name == model.folder.name
    assert {path.name: path.read_bytes() for path in again.folder.iterdir()} == files
    assert build_model(tmp_path, TEXTS[:100], SHAPE).folder != model.folder


def test_the_vocabulary_has_at_most_the_size_asked_for_and_the_config_agrees(model):
    vocabulary = json.loads((model.folder / "tokenizer.json").read_text())["model"]["vocab"]
    assert 259 < len(vocabulary) <= 400
    assert model.config["vocab_size"] == len(vocabulary)
