"""Counts by arithmetic, against the modules that transformers builds on torch's meta device."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from nearfirst.contracts.training import LoraSpec, ModelSpec
from nearfirst.estimates.model_files import read_model_folder
from nearfirst.estimates.model_shape import UnknownShape, shape_of_config
from nearfirst.estimates.sizes import num_elements

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SMALL = {
    "vocab_size": 211,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
}
NO_KEY_VALUE_HEADS = {name: value for name, value in SMALL.items() if name != "num_key_value_heads"}
CONFIGS: list[dict[str, Any]] = [
    {"model_type": "llama", **SMALL},
    {"model_type": "llama", **NO_KEY_VALUE_HEADS},
    {"model_type": "llama", **SMALL, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
    {"model_type": "llama", **SMALL, "head_dim": 10},
    {"model_type": "mistral", **SMALL},
    {"model_type": "mistral", **NO_KEY_VALUE_HEADS},
    {"model_type": "mistral", **SMALL, "head_dim": 4, "tie_word_embeddings": True},
    {"model_type": "qwen2", **SMALL},
    {"model_type": "qwen2", **SMALL, "tie_word_embeddings": True},
    {"model_type": "qwen2", **NO_KEY_VALUE_HEADS, "num_attention_heads": 32, "hidden_size": 64},
    {"model_type": "gemma", **SMALL},
    {"model_type": "gemma", **SMALL, "head_dim": 6, "attention_bias": True},
    {"model_type": "gemma", **NO_KEY_VALUE_HEADS, "num_attention_heads": 16, "tie_word_embeddings": False},
]


def built(config: dict[str, Any]) -> Any:
    """The model without memory for its weights."""
    fields = {name: value for name, value in config.items() if name != "model_type"}
    with torch.device("meta"):
        return transformers.AutoModelForCausalLM.from_config(
            transformers.AutoConfig.for_model(config["model_type"], **fields)
        )


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config['model_type']}-{len(config)}")
def test_names_and_shapes_are_those_that_transformers_builds(config: dict[str, Any]) -> None:
    shape = shape_of_config(config)
    model = built(config)
    assert {name: tuple(weight.shape) for name, weight in model.named_parameters()} == dict(shape.tensors)
    assert shape.num_parameters == sum(weight.numel() for weight in model.parameters())
    assert shape.layer_parameters == sum(weight.numel() for weight in model.model.layers[0].parameters())


def test_a_llama_2_of_7_billion_has_6_738_415_616_parameters() -> None:
    shape = shape_of_config(
        {
            "model_type": "llama",
            "vocab_size": 32000,
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
        }
    )
    assert shape.num_parameters == 6_738_415_616


@pytest.mark.parametrize("targets", [None, ["q_proj", "v_proj"]])
def test_adapters_are_those_that_peft_adds(targets: list[str] | None) -> None:
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(
        built(CONFIGS[0]),
        peft.LoraConfig(r=3, target_modules=targets or "all-linear", task_type=peft.TaskType.CAUSAL_LM),
        low_cpu_mem_usage=True,
    )
    added = {
        name.replace(".default", ""): tuple(weight.shape)
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }
    assert shape_of_config(CONFIGS[0]).adapters(LoraSpec(rank=3, target_modules=targets)) == added


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model_type": "gpt2"}, "model_type 'gpt2': sizes are known for llama"),
        ({"model_type": ["llama"]}, "model_type"),
        ({"hidden_size": None}, "hidden_size is None, wanted a positive number"),
        ({"vocab_size": "many"}, "vocab_size is 'many'"),
        ({"num_hidden_layers": -1}, "num_hidden_layers is -1"),
        ({"num_attention_heads": True}, "num_attention_heads is True"),
    ],
)
def test_a_configuration_that_is_not_understood_says_which_field(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnknownShape, match=reason):
        shape_of_config({"model_type": "llama", **SMALL, **change})


def saved(folder: Path, config: dict[str, Any], **options: Any) -> Any:
    model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(**config))
    model.save_pretrained(folder, **options)
    return model


@pytest.mark.parametrize("shard_size", ["1GB", "50KB"])
def test_stored_weights_are_read_from_the_headers_of_one_file_or_many(tmp_path: Path, shard_size: str) -> None:
    model = saved(tmp_path, CONFIGS[0], max_shard_size=shard_size)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (shard_size == "50KB")
    found = read_model_folder(ModelSpec(name_or_path=str(tmp_path)))
    assert found.stored == {name: tuple(weight.shape) for name, weight in model.named_parameters()}
    assert found.remark is None


def test_the_headers_tell_the_size_of_a_family_that_is_not_known(tmp_path: Path) -> None:
    config = {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": 99, "n_positions": 16}
    model = saved(tmp_path, config)
    found = read_model_folder(ModelSpec(name_or_path=str(tmp_path)))
    assert found.tensors is not None
    assert sum(map(math.prod, found.tensors.values())) == sum(weight.numel() for weight in model.parameters())
    assert found.shape is None
    assert found.remark is not None
    assert "model_type 'gpt2'" in found.remark


def test_random_weights_have_the_size_that_the_spec_gives(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIGS[0]))
    spec = ModelSpec(name_or_path=str(tmp_path), init="random", config={"num_hidden_layers": 1})
    found = read_model_folder(spec)
    assert found.stored is None
    assert found.shape is not None
    assert found.shape.num_layers == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff" * 40, "header of"),
        (b"\x02\0\0\0\0\0\0\0[]", "can't be read"),
        (b"\x02", "can't be read"),
        (None, "No such"),
    ],
)
def test_damaged_weights_are_a_remark_and_no_crash(tmp_path: Path, content: bytes | None, reason: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIGS[0]))
    if content is not None:
        (tmp_path / "model.safetensors").write_bytes(content)
    found = read_model_folder(ModelSpec(name_or_path=str(tmp_path)))
    assert found.stored is None
    assert found.remark is not None
    assert reason in found.remark


def test_a_hub_id_is_a_remark() -> None:
    found = read_model_folder(ModelSpec(name_or_path="owner/name"))
    assert found.tensors is None
    assert found.remark == "model 'owner/name' isn't a folder here: its size is known once it is one"


def test_the_papers_model_has_its_published_size_before_it_is_downloaded() -> None:
    found = read_model_folder(ModelSpec(name_or_path="meta-llama/Llama-2-7b-hf"))
    assert found.tensors is not None
    assert num_elements(found.tensors) == 6_738_415_616  # Touvron et al. 2023 say 6.7 B
    assert found.remark is not None
    assert "published" in found.remark
