"""TensorBoard, MLflow and Weights & Biases, each read back with its own library after a run that was killed."""

import json
import struct
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nearfirst.contracts.progress import Interrupted
from nearfirst.contracts.training import MetricRow
from nearfirst_training.trackers.tracking import tracking

Measured = dict[str, list[list[MetricRow]]]
Expected = dict[str, list[tuple[int, float]]]

SPEC = {"model": {"name_or_path": "tiny"}, "optimizer": {"lr": 0.001}, "seed": 3, "epochs": None}


def attempt(setting: str, folder: Path, told: list[list[MetricRow]], *, is_killed: bool) -> None:
    with tracking(setting, "job_1", SPEC, folder) as tracked:
        for rows in told:
            tracked.metrics(rows)
        if is_killed:
            raise Interrupted("killed")


def run_twice(setting: str, folder: Path, measured: Measured) -> None:
    with pytest.raises(Interrupted):
        attempt(setting, folder, measured["first"], is_killed=True)
    attempt(setting, folder, measured["second"], is_killed=False)


def test_tensorboard_has_every_step_once(
    tmp_path: Path, measured: Measured, expected: Expected, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    run_twice(f"tensorboard:{tmp_path / 'boards'}", tmp_path / "run", measured)
    assert caplog.text == ""
    found: Any = defaultdict(list)
    texts = []
    for path in sorted((tmp_path / "boards" / "job_1").iterdir()):
        for event in LegacyEventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    found[value.tag].append((event.step, value.simple_value))
                else:
                    texts.append(value.tensor.string_val[0].decode())
    assert found == expected
    assert len(texts) == 1
    assert '"lr": 0.001' in texts[0]


def test_tensorboard_goes_on_behind_a_file_that_was_cut_short(
    tmp_path: Path, measured: Measured, expected: Expected
) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    setting = f"tensorboard:{tmp_path / 'boards'}"
    with pytest.raises(Interrupted):
        attempt(setting, tmp_path, measured["first"], is_killed=True)
    (path,) = (tmp_path / "boards" / "job_1").iterdir()
    path.write_bytes(path.read_bytes()[:-20])  # the machine went down while the last event was written
    attempt(setting, tmp_path, measured["second"], is_killed=False)
    board = EventAccumulator(str(tmp_path / "boards" / "job_1"))
    board.Reload()
    for name, values in expected.items():
        assert [event.step for event in board.Scalars(name)] == [step for step, _ in values]


@pytest.mark.filterwarnings("ignore")  # of the library's own, over its database
def test_mlflow_has_every_step_once(
    tmp_path: Path, measured: Measured, expected: Expected, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path / 'mlflow.sqlite'}"
    run_twice(f"mlflow:{uri}", tmp_path / "run", measured)
    assert not [record for record in caplog.records if record.name.startswith("nearfirst")]
    client = MlflowClient(tracking_uri=uri)
    (run,) = client.search_runs([client.get_experiment_by_name("nearfirst").experiment_id])
    assert (run.info.run_name, run.info.status) == ("job_1", "FINISHED")
    assert run.data.params == {"model.name_or_path": "tiny", "optimizer.lr": "0.001", "seed": "3"}
    for name, values in expected.items():
        history = client.get_metric_history(run.info.run_id, name.replace("(", "_").replace(")", "_"))
        assert sorted((metric.step, metric.value) for metric in history) == values


def records_of(path: Path) -> Iterator[bytes]:
    """The records of a .wandb file: LevelDB's log format (blocks of 32 KiB, fragments with a header of 7 bytes) behind
    7 bytes of W&B's own."""
    content, place, whole = path.read_bytes(), 7, b""
    while place + 7 <= len(content):
        if (left := -place % 32768) < 7 and left:
            place += left
            continue
        length, kind = struct.unpack_from("<HB", content, place + 4)
        whole += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last fragment
            yield whole
            whole = b""


def test_wandb_has_every_step_once(
    tmp_path: Path, measured: Measured, expected: Expected, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_MODE", "offline")
    run_twice("wandb:order", tmp_path, measured)
    found: Any = defaultdict(dict)
    files = list(tmp_path.rglob("*.wandb"))
    assert len(files) == 2
    for path in files:
        for data in records_of(path):
            record = wandb_internal_pb2.Record.FromString(data)
            values = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item}
            for name in values.keys() & expected.keys():
                assert values["_step"] not in found[name]
                found[name][values["_step"]] = values[name]
    assert {name: sorted(values.items()) for name, values in found.items()} == expected
