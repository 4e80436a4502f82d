"""`nearfirst estimate`, against the files and tokens of the training that it foretells."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from nearfirst.contracts.estimates import TrainEstimate
from nearfirst.contracts.problems import DoesNotFit, InvalidInput
from nearfirst_training import estimate_cli
from nearfirst_training.cli import job_of_spec
from nearfirst_training.loop import train

SpecFactory = Callable[..., Path]


@pytest.fixture
def write_spec(tmp_path: Path, train_file: Path, model_folder: Path) -> SpecFactory:
    def write(**fields: Any) -> Path:
        spec = {
            "model": {"name_or_path": str(model_folder), "init": "random"},
            "global_batch_size": 8,
            "max_length": 32,
            "checkpoint": {"weights_every": 2, "state_every": 1},
            "data": {"train": str(train_file)},
        }
        path = tmp_path / "spec.yaml"
        path.write_text(yaml.safe_dump(spec | fields))
        return path

    return write


def run(*arguments: object) -> str:
    app = typer.Typer()
    app.command()(estimate_cli.estimate)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"checkpoint": {"weights_every": 2, "state_every": 1, "weights_dtype": "bf16", "keep_weights": 2}},
        {"tuning": "lora", "lora": {"rank": 64}},
        {"checkpoint": {"weights_every": 2, "initial_weights": True}},
    ],
    ids=["full", "bf16", "lora", "from step 0"],
)
def test_steps_tokens_and_checkpoints_are_those_of_the_training(
    write_spec: SpecFactory, tmp_path: Path, fields: dict[str, Any]
) -> None:
    spec = write_spec(**fields)
    found = TrainEstimate.model_validate_json(run(spec, "--json", "--out", tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    result = train(job_of_spec(spec, tmp_path / "run", resume=False))
    assert (found.steps, found.tokens) == (result.steps, result.num_tokens)
    assert found.estimates.tokens is not None
    assert found.estimates.tokens.is_exact
    expected = found.estimates.checkpoints
    assert expected is not None
    by_tier = {tier: [c.size_bytes for c in result.checkpoints if c.tier == tier] for tier in ("weights", "state")}
    assert (expected.num_weights, expected.num_states) == (len(by_tier["weights"]), len(by_tier["state"]))
    for size in by_tier["weights"]:
        assert expected.weights_bytes == pytest.approx(size, rel=0.02)
    for size in by_tier["state"]:
        assert expected.state_bytes == pytest.approx(size, rel=0.02)
    assert expected.kept_bytes == pytest.approx(sum(c.size_bytes for c in result.checkpoints), rel=0.02)


def test_the_table_is_printed(write_spec: SpecFactory) -> None:
    output = run(write_spec())
    for word in ("steps", "tokens", "parameters", "weights checkpoints", "memory per process", "disk has free"):
        assert word in output


def test_checkpoints_that_the_disk_has_no_room_for_are_refused_below_the_table(
    write_spec: SpecFactory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(estimate_cli, "_free_bytes", lambda _out: 100_000)
    with pytest.raises(DoesNotFit, match="are free where they are written"):
        estimate_cli.estimate(write_spec())
    assert "weights checkpoints" in capsys.readouterr().out


def test_a_bad_spec_names_its_field(write_spec: SpecFactory) -> None:
    with pytest.raises(InvalidInput, match="lr"):
        run(write_spec(optimizer={"lr": -1}))


def test_a_spec_of_the_api_goes_to_the_server(
    tmp_path: Path, write_spec: SpecFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    answer = TrainEstimate(steps=3, rows=24)

    class Answering:
        @classmethod
        def from_settings(cls, url: str | None) -> "Answering":
            asked.append(url)
            return cls()

        def __enter__(self) -> "Answering":
            return self

        def __exit__(self, *_: object) -> None:
            return

        def estimate(self, spec: Any) -> TrainEstimate:
            asked.append(spec.dataset)
            return answer

    monkeypatch.setattr(estimate_cli, "Client", Answering)
    path = tmp_path / "remote.yaml"
    path.write_text(yaml.safe_dump({"dataset": "ds_1", "model": {"name_or_path": "owner/name"}}))
    output = run(path, "--json", "--url", "http://somewhere")
    assert json.loads(output)["steps"] == 3
    assert asked == ["http://somewhere", "ds_1"]


def test_a_bad_spec_of_the_api_names_its_field(tmp_path: Path) -> None:
    path = tmp_path / "remote.yaml"
    path.write_text(yaml.safe_dump({"dataset": "ds_1", "model": {"name_or_path": "owner/name"}, "gpu": 1}))
    with pytest.raises(InvalidInput, match="gpu: no such field is known"):
        run(path)
