"""`nearfirst embed` on files."""

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from nearfirst.contracts.arrangements import Representation
from nearfirst.contracts.problems import InvalidDataset, InvalidInput, InvalidModel
from nearfirst.data.dataset import load_dataset
from nearfirst_embedding.cli import embed
from nearfirst_embedding.representations import embed_texts, load_representation


@pytest.fixture
def dataset_file(tmp_path: Path, words: list[str]) -> Path:
    path = tmp_path / "data.jsonl"
    rows = [
        {"id": f"r{i}", "task": "t", "prompt": " ".join(words[i : i + 2 * i + 1]), "completion": words[-1 - i]}
        for i in range(12)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run_embed(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(embed)
    return CliRunner().invoke(app, arguments)


def test_vectors_and_their_description_are_written(dataset_file: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    out = tmp_path / "X.npy"
    result = run_embed("--data", str(dataset_file), "--model", str(tiny_encoder), "--out", str(out))
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in dataset_file.read_text().splitlines()]
    representation = Representation(model=str(tiny_encoder))
    expected = embed_texts(representation, [f"{row['prompt']} {row['completion']}" for row in rows]).vectors
    vectors = np.load(out)
    assert vectors.dtype == np.float32
    assert np.array_equal(vectors, expected)
    assert json.loads((tmp_path / "X.npy.json").read_text()) == {
        "encoder": load_representation(representation).key,
        "num_rows": 12,
        "dimensions": 32,
        "dataset_digest": load_dataset(dataset_file).digest,
        "truncated": sum(len(row["prompt"].split()) + 1 + 2 > 16 for row in rows),
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["X.npy", "X.npy.json", "data.jsonl"]


def test_the_text_rule_decides_what_is_embedded(dataset_file: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    for rule in ("first_turn", "instruction"):
        out = tmp_path / f"{rule}.npy"
        run_embed("--data", str(dataset_file), "--model", str(tiny_encoder), "--text", rule, "--out", str(out))
    assert not np.array_equal(np.load(tmp_path / "first_turn.npy"), np.load(tmp_path / "instruction.npy"))
    assert "text=instruction" in json.loads((tmp_path / "instruction.npy.json").read_text())["encoder"]


def test_the_cache_is_described_and_may_be_left_out(dataset_file: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    arguments = ("--data", str(dataset_file), "--model", str(tiny_encoder), "--out", str(tmp_path / "X.npy"))
    assert "cache:" not in run_embed(*arguments, "--no-cache").stderr
    assert "cache: 12 vectors, 0.0 MiB in " in run_embed(*arguments).stderr


def test_a_causal_model_is_pooled_as_asked(dataset_file: Path, tiny_causal_lm: Path, tmp_path: Path) -> None:
    shared = ("--data", str(dataset_file), "--kind", "causal-lm", "--model", str(tiny_causal_lm))
    for pooling in ("mean", "weighted_mean"):
        out = tmp_path / f"{pooling}.npy"
        result = run_embed(*shared, "--pooling", pooling, "--out", str(out))
        assert result.exit_code == 0, result.output
        assert f"pooling={pooling}" in json.loads(out.with_name(f"{out.name}.json").read_text())["encoder"]
    assert not np.array_equal(np.load(tmp_path / "mean.npy"), np.load(tmp_path / "weighted_mean.npy"))


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"--out": "X.bin"}, InvalidInput, "wanted a name that ends in .npy"),
        ({"--out": "missing/X.npy"}, InvalidInput, "wanted a file in a folder that exists"),
        ({"--out": "folder.npy"}, InvalidInput, "folder.npy is no ordinary file"),
        ({"--model": "./no-model"}, InvalidModel, "no such folder"),
        ({"--pooling": "mean"}, InvalidInput, "pooling is for kind causal-lm"),
        ({"--kind": "no-such"}, InvalidInput, "no encoder of kind 'no-such' is installed"),
        ({"--data": "bad.jsonl"}, InvalidDataset, "line 2"),
    ],
)
def test_bad_input_is_refused_and_leaves_nothing(
    dataset_file: Path,
    tiny_encoder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changed: dict[str, str],
    error: type[Exception],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    good_row = dataset_file.read_text().splitlines()[0]
    Path("bad.jsonl").write_text(f"{good_row}\nnot json\n")
    Path("folder.npy").mkdir()
    arguments = {"--data": str(dataset_file), "--model": str(tiny_encoder), "--out": "X.npy"} | changed
    result = run_embed(*(part for pair in arguments.items() for part in pair))
    assert isinstance(result.exception, error)
    assert message in str(result.exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({"bad.jsonl", "folder.npy", dataset_file.name})
