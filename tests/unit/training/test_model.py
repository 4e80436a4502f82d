import json
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from nearfirst.contracts.problems import InvalidModel
from nearfirst.contracts.training import ModelSpec
from nearfirst_training.model import load_model

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path, model_folder):
    """A model folder with weights."""
    target = shutil.copytree(model_folder, tmp_path / "model")
    torch.manual_seed(77)
    model = AutoModelForCausalLM.from_config(LlamaConfig.from_pretrained(model_folder))
    model.save_pretrained(target)
    return target


def load(folder, init="pretrained", max_length=64, **fields):
    spec = ModelSpec(name_or_path=str(folder), init=init, **fields)
    return load_model(spec, seed=3, max_length=max_length, device=CPU)


def edit_config(folder, **fields):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | fields))


def test_pretrained_weights_are_the_files_in_fp32(folder):
    half = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    half.save_pretrained(folder)
    model, _ = load(folder)
    assert model.training
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, half.state_dict()[name].float())


def test_random_weights_are_drawn_from_the_seed(folder):
    first, second = (load(folder, init="random")[0].state_dict() for _ in range(2))
    on_disk = load(folder)[0].state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["model.embed_tokens.weight"], on_disk["model.embed_tokens.weight"])


def test_a_folder_without_weights_is_refused(model_folder):
    with pytest.raises(InvalidModel, match=r"has no weights \(model\.safetensors"):
        load(model_folder)


def test_a_folder_with_pickled_weights_only_is_refused(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InvalidModel, match=r"only pytorch_model\.bin: pickles are never read"):
        load(folder)


def test_a_missing_shard_is_named(folder):
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"lm_head.weight": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InvalidModel, match=r"no model-00001-of-00002\.safetensors"):
        load(folder)


def test_weights_that_lack_a_tensor_are_refused(folder):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InvalidModel, match=r"lack 1 tensors, model\.norm\.weight among them"):
        load(folder)


def test_weights_cut_short_are_refused(folder):
    raw = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(InvalidModel, match="can't be loaded"):
        load(folder)


def test_weights_of_another_shape_are_refused(folder):
    edit_config(folder, intermediate_size=64)
    with pytest.raises(InvalidModel):
        load(folder)


@pytest.mark.parametrize(("missing", "said"), [("config.json", "no config.json"), ("tokenizer.json", "no a tokenizer")])
def test_what_a_folder_lacks_is_named(folder, missing, said):
    (folder / missing).unlink()
    with pytest.raises(InvalidModel, match=said):
        load(folder)


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(InvalidModel, match=r"nowhere doesn't exist"):
        load(tmp_path / "nowhere")


def test_a_tokenizer_above_the_vocabulary_is_refused_with_both_numbers(folder):
    tokens = len(AutoTokenizer.from_pretrained(folder))
    edit_config(folder, vocab_size=100)
    with pytest.raises(InvalidModel, match=f"the tokenizer has {tokens} tokens, the model's vocabulary 100"):
        load(folder, init="random")


def test_a_length_above_the_positions_is_refused_with_both_numbers(folder):
    with pytest.raises(InvalidModel, match="max_length 129 is above the 128 positions"):
        load(folder, max_length=129)


def test_remote_code_is_not_run(folder):
    edit_config(
        folder, model_type="theirs", auto_map={"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    )
    marker = folder / "ran"
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass Config: pass\nclass Model: pass\n")
    with pytest.raises(InvalidModel):
        load(folder)
    assert not marker.exists()


@pytest.mark.parametrize("config", ["{", '{"model_type": "no such thing"}', '{"model_type": "t5"}', "{}"])
def test_a_configuration_that_makes_no_causal_model_is_refused(folder, config):
    (folder / "config.json").write_text(config)
    with pytest.raises(InvalidModel):
        load(folder, init="random")


def test_an_override_that_the_configuration_does_not_know_is_named(folder):
    with pytest.raises(InvalidModel, match="doesn't know: num_layres"):
        load(folder, init="random", config={"num_layres": 2})
