"""The hub's pickled shards to safetensors: same numbers, both layouts, nothing unpickled, all or nothing."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from nearfirst.checkpoint_folder import open_checkpoint
from nearfirst.contracts.problems import InvalidInput, InvalidModel, NotWritten
from nearfirst.contracts.scoring import ScorePair
from nearfirst_scoring import convert
from nearfirst_scoring.convert import convert_reward_model
from nearfirst_scoring.opening import open_scorer

Tensors = dict[str, torch.Tensor]
HEAD = "regression_head.weight"


class Calls:
    """What unpickles to the answer of a call: here one that makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, (str(self.path),))


@pytest.fixture
def tensors(tiny_weights: tuple[Path, dict]) -> Tensors:
    return {name: tensor.half() for name, tensor in tiny_weights[1].items()}


@pytest.fixture
def make_hub_folder(make_folder: Callable[..., Path], tensors: Tensors) -> Callable[..., Path]:
    """A folder as the hub has UltraRM: fp16 pickles in shards, a card, and a module that is broken."""

    def make(shards: list[dict[str, object]] | None = None) -> Path:
        folder = make_folder(auto_map={"AutoModel": "modeling_llama_rm.LlamaRewardModel"})
        (folder / "model.safetensors").unlink()
        (folder / "modeling_llama_rm.py").write_text("raise SystemExit('code of a model was run')\n")
        (folder / "README.md").write_text("# UltraRM\n")
        names = sorted(tensors)
        parts = shards or [{name: tensors[name] for name in names[place::3]} for place in range(3)]
        weight_map = {}
        for number, part in enumerate(parts, start=1):
            file = f"pytorch_model-{number:05}-of-{len(parts):05}.bin"
            torch.save(part, folder / file)
            weight_map |= dict.fromkeys(part, file)
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
        return folder

    return make


def nothing_was_left(out: Path) -> bool:
    return not out.exists() and not list(out.parent.glob(".*partial*"))


def test_every_tensor_arrives_bit_for_bit(
    make_hub_folder: Callable[..., Path], tensors: Tensors, tmp_path: Path
) -> None:
    converted = convert_reward_model(make_hub_folder(), tmp_path / "out")
    files = sorted(path.name for path in converted.folder.glob("*.safetensors"))
    assert files == [f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)]
    found: Tensors = {}
    for name in files:
        found |= load_file(converted.folder / name)
    assert set(found) == set(tensors)
    assert all(found[name].dtype == torch.float16 and torch.equal(found[name], tensors[name]) for name in tensors)
    assert converted.num_tensors == len(tensors)
    index = json.loads((converted.folder / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in tensors.values())
    assert set(index["weight_map"]) == set(tensors)


def test_a_converted_folder_scores_as_the_weights_do(
    make_hub_folder: Callable[..., Path], make_folder: Callable[..., Path], tensors: Tensors, tmp_path: Path
) -> None:
    pairs = [ScorePair(instruction="Say it", completion=text) for text in ("yes", "no, I will not", "")]
    expected = open_scorer(str(make_folder(tensors)), max_length=64, precision="fp32").score(pairs).rewards
    source = make_hub_folder()
    for layout in ("ultrarm", "sequence-classification"):
        out = convert_reward_model(source, tmp_path / layout, layout=layout).folder
        found = open_scorer(str(out), max_length=64, precision="fp32").score(pairs).rewards
        assert found.tolist() == expected.tolist()


def test_transformers_reads_the_sequence_classification_layout(
    make_hub_folder: Callable[..., Path], tmp_path: Path
) -> None:
    from transformers import AutoModelForSequenceClassification

    out = convert_reward_model(make_hub_folder(), tmp_path / "out", layout="sequence-classification").folder
    model, loaded = AutoModelForSequenceClassification.from_pretrained(
        out, dtype=torch.float32, output_loading_info=True, trust_remote_code=False
    )
    assert {name: list(found) for name, found in loaded.items() if found} == {}
    assert (model.config.num_labels, model.config.problem_type) == (1, "regression")
    ids = torch.tensor([[0, 9, 10, 11]])
    ours = open_scorer(str(out), max_length=64, precision="fp32").engine.rewards(ids.tolist())
    with torch.no_grad():
        assert model(ids).logits.item() == pytest.approx(ours[0], abs=1e-4)


def test_a_converted_folder_changes_its_layout_and_back(make_hub_folder: Callable[..., Path], tmp_path: Path) -> None:
    first = convert_reward_model(make_hub_folder(), tmp_path / "first").folder
    other = convert_reward_model(first, tmp_path / "other", layout="sequence-classification").folder
    again = convert_reward_model(other, tmp_path / "again").folder
    assert HEAD not in load_file(other / "model-00003-of-00003.safetensors")
    for name in ("model-00001-of-00003.safetensors", "model-00003-of-00003.safetensors"):
        assert (again / name).read_bytes() == (first / name).read_bytes()


def test_the_manifest_has_every_other_file_and_names_the_model(
    make_hub_folder: Callable[..., Path], tmp_path: Path
) -> None:
    source = make_hub_folder()
    converted = convert_reward_model(source, tmp_path / "out")
    files = json.loads((converted.folder / "manifest.json").read_text())["files"]
    assert set(files) == {path.name for path in converted.folder.iterdir()} - {"manifest.json"}
    assert {"README.md", "tokenizer.json", "config.json"} <= set(files)
    assert "modeling_llama_rm.py" not in files
    assert "auto_map" not in json.loads((converted.folder / "config.json").read_text())
    again = convert_reward_model(source, tmp_path / "again")
    assert open_checkpoint(converted.folder).digest == converted.digest == again.digest


def test_a_single_file_stays_one(make_hub_folder: Callable[..., Path], tensors: Tensors, tmp_path: Path) -> None:
    source = make_hub_folder()
    for path in source.glob("pytorch_model*"):
        path.unlink()
    torch.save(tensors, source / "pytorch_model.bin")
    out = convert_reward_model(source, tmp_path / "out").folder
    assert [path.name for path in out.glob("model*")] == ["model.safetensors"]


@pytest.mark.parametrize("hidden_in", ["a tensor's place", "a shard of its own"])
def test_a_pickle_with_code_in_it_is_refused_and_not_run(
    make_hub_folder: Callable[..., Path], tensors: Tensors, tmp_path: Path, hidden_in: str
) -> None:
    trap = tmp_path / "trap"
    names = sorted(tensors)
    if hidden_in == "a tensor's place":
        shards: list[dict[str, object]] = [{**tensors, "model.norm.weight": Calls(trap)}]
    else:
        shards = [{name: tensors[name] for name in names[:-1]}, {names[-1]: Calls(trap)}]
    source = make_hub_folder(shards)
    with pytest.raises(InvalidModel, match=r"pytorch_model-0000\d-of-0000\d.bin is refused: .* can run code"):
        convert_reward_model(source, tmp_path / "out")
    assert not trap.exists()
    assert nothing_was_left(tmp_path / "out")
    torch.load(source / f"pytorch_model-0000{len(shards)}-of-0000{len(shards)}.bin", weights_only=False)
    assert trap.exists(), "the trap works where pickles are trusted"


@pytest.mark.parametrize("content", [[1, 2], {"model.norm.weight": "text"}, {"model.norm.weight": {"a": 1}}])
def test_a_pickle_of_something_else_than_tensors_is_refused(
    make_hub_folder: Callable[..., Path], tmp_path: Path, content: object
) -> None:
    source = make_hub_folder()
    torch.save(content, source / "pytorch_model-00002-of-00003.bin")
    with pytest.raises(InvalidModel, match=r"pytorch_model-00002-of-00003.bin is refused: wanted tensors by name"):
        convert_reward_model(source, tmp_path / "out")


def test_a_missing_or_cut_shard_is_named(make_hub_folder: Callable[..., Path], tmp_path: Path) -> None:
    source = make_hub_folder()
    shard = source / "pytorch_model-00002-of-00003.bin"
    shard.write_bytes(shard.read_bytes()[:5000])
    with pytest.raises(InvalidModel, match=r"pytorch_model-00002-of-00003.bin is refused"):
        convert_reward_model(source, tmp_path / "out")
    shard.unlink()
    with pytest.raises(InvalidModel, match=r"lacks 1 of 3 shards, pytorch_model-00002-of-00003.bin"):
        convert_reward_model(source, tmp_path / "out")
    assert nothing_was_left(tmp_path / "out")


def test_weights_without_a_head_are_refused(
    make_hub_folder: Callable[..., Path], tensors: Tensors, tmp_path: Path
) -> None:
    del tensors[HEAD]
    with pytest.raises(InvalidModel, match="has no head"):
        convert_reward_model(make_hub_folder([tensors]), tmp_path / "out")


def test_a_tensor_in_two_shards_is_refused(
    make_hub_folder: Callable[..., Path], tensors: Tensors, tmp_path: Path
) -> None:
    source = make_hub_folder([tensors, {HEAD: tensors[HEAD] + 1}])
    with pytest.raises(InvalidModel, match=r"regression_head.weight, which another shard has too"):
        convert_reward_model(source, tmp_path / "out")


@pytest.mark.parametrize("kind", ["folder", "file", "dangling link"])
def test_a_target_that_is_there_is_never_replaced(
    make_hub_folder: Callable[..., Path], tmp_path: Path, kind: str
) -> None:
    out = tmp_path / "out"
    {"folder": out.mkdir, "file": out.touch, "dangling link": lambda: out.symlink_to("nowhere")}[kind]()
    with pytest.raises(InvalidInput, match="is there already"):
        convert_reward_model(make_hub_folder(), out)
    with pytest.raises(InvalidInput, match="a folder that exists"):
        convert_reward_model(make_hub_folder(), tmp_path / "no" / "out")


def test_a_full_disk_leaves_nothing(
    make_hub_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(tensors: Tensors, path: Path, **_: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(convert, "save_file", full)
    with pytest.raises(NotWritten, match="No space left"):
        convert_reward_model(make_hub_folder(), tmp_path / "out")
    assert nothing_was_left(tmp_path / "out")


def test_progress_counts_files(make_hub_folder: Callable[..., Path], tmp_path: Path) -> None:
    seen: list[tuple[int, int | None, str]] = []
    convert_reward_model(make_hub_folder(), tmp_path / "out", progress=lambda *report: seen.append(report))
    assert seen == [(done, 6, "files") for done in range(7)]


def test_the_command_says_what_it_wrote(make_hub_folder: Callable[..., Path], tmp_path: Path) -> None:
    import typer

    from nearfirst_scoring.convert_cli import convert_reward_model as command

    app = typer.Typer()
    app.command()(command)
    out = tmp_path / "out"
    options = ["--layout", "sequence-classification", "--json"]
    ended = CliRunner().invoke(app, [str(make_hub_folder()), str(out), *options])
    assert ended.exit_code == 0, ended.output
    assert json.loads((out / "manifest.json").read_text())["layout"] == "sequence-classification"
    assert f"in {out}; sha256:" in ended.stderr.replace("\n", "")
    assert json.loads(ended.stdout)["folder"] == str(out)
