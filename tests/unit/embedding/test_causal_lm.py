"""Pooled hidden states of a causal language model, against a loop over single, unpadded texts."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from nearfirst.contracts.arrangements import Representation
from nearfirst.contracts.problems import InvalidModel
from nearfirst_embedding import causal_lm
from nearfirst_embedding.representations import embed_texts


@pytest.fixture
def texts(words: list[str]) -> list[str]:
    draw = random.Random(3)
    return [" ".join(draw.choices(words, k=draw.randint(1, 38))) for _ in range(30)]


def representation(folder: Path, **fields: object) -> Representation:
    return Representation.model_validate({"kind": "causal-lm", "model": str(folder), **fields})


def literal_vectors(folder: Path, texts: list[str], pooling: str) -> np.ndarray:
    """One text at a time through the whole language model, hidden states pooled in float64."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    vectors = []
    for text in texts:
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            hidden = model(ids, output_hidden_states=True).hidden_states[-1][0].double().numpy()
        weights = np.arange(1, len(hidden) + 1) if pooling == "weighted_mean" else np.ones(len(hidden))
        pooled = (weights / weights.sum()) @ hidden
        vectors.append(pooled / np.linalg.norm(pooled))
    return np.array(vectors)


@pytest.mark.parametrize("pooling", ["mean", "weighted_mean"])
def test_vectors_are_the_pooled_last_hidden_states(tiny_causal_lm: Path, texts: list[str], pooling: str) -> None:
    encoded = embed_texts(representation(tiny_causal_lm, pooling=pooling), texts)
    expected = literal_vectors(tiny_causal_lm, texts, pooling)
    np.testing.assert_allclose(encoded.vectors, expected, atol=1e-5, rtol=0)
    assert encoded.num_tokens.tolist() == [len(text.split()) + 2 for text in texts]


def test_pooling_is_weighted_unless_told_otherwise(tiny_causal_lm: Path) -> None:
    weighted = causal_lm.load(representation(tiny_causal_lm, pooling="weighted_mean"))
    mean = causal_lm.load(representation(tiny_causal_lm, pooling="mean"))
    default = causal_lm.load(representation(tiny_causal_lm))
    assert default.key == weighted.key
    assert default.key != mean.key
    assert "pooling=weighted_mean" in default.key


def test_the_limit_is_the_models_positions_or_the_representations(tiny_causal_lm: Path, words: list[str]) -> None:
    assert causal_lm.load(representation(tiny_causal_lm)).max_length == 40
    encoded = embed_texts(representation(tiny_causal_lm, max_length=6), [" ".join(words[:5]), " ".join(words[:4])])
    assert encoded.num_tokens.tolist() == [6, 6]
    assert encoded.truncated.tolist() == [True, False]
    with pytest.raises(InvalidModel, match="max_length 41 is above the 40 positions"):
        embed_texts(representation(tiny_causal_lm, max_length=41), ["a cat"])


def test_a_model_that_is_not_causal_is_refused(tiny_causal_lm: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_causal_lm, folder)
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "distilbert"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InvalidModel, match="is a distilbert, not a causal language model"):
        embed_texts(representation(folder), ["a cat"])


def test_pickled_weights_are_refused(tiny_causal_lm: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_causal_lm, folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InvalidModel, match="as a pickle"):
        causal_lm.load(representation(folder))


def test_weights_that_would_be_random_are_refused(tiny_causal_lm: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(tiny_causal_lm, folder)
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InvalidModel, match=r"lacks 1 weights, such as layers\.1\.mlp\.up_proj\.weight"):
        embed_texts(representation(folder), ["a cat"])


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="no such folder"):
        causal_lm.load(representation(tmp_path / "nothing"))
