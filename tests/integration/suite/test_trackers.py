"""NEARFIRST_TRACKERS on a running suite: a tracker has what the registry has, and one that fails fails alone."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.suite import RunningSuite

pytest.importorskip("tensorboard")


def test_a_trackers_steps_are_the_registrys(
    make_suite: Callable[..., RunningSuite], data_files: dict[str, Path], tmp_path: Path
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    suite = make_suite(NEARFIRST_TRACKERS=f"mlflow:ftp://nowhere,tensorboard:{tmp_path}")
    suite.start_worker("training")
    suite.start_api()
    dataset = suite.upload(data_files["train"])["id"]
    spec = {"dataset": dataset, "model": {"name_or_path": str(suite.home / "models" / "tiny"), "init": "random"}}
    job = suite.post("/train-jobs", spec | {"global_batch_size": 8, "max_length": 64})
    assert suite.wait(f"/train-jobs/{job}")["state"] == "succeeded"
    board = EventAccumulator(str(tmp_path / job))
    board.Reload()
    for name in ("train_loss", "lr", "grad_norm"):
        kept = suite.get(f"/train-jobs/{job}/metrics?name={name}")["items"]
        written = [(event.step, event.value) for event in board.Scalars(name)]
        assert written == [(row["step"], pytest.approx(row["value"], rel=1e-6)) for row in kept]
        assert len(written) == 8
    assert suite.log("training").count("tracker mlflow:ftp://nowhere failed") == 1
