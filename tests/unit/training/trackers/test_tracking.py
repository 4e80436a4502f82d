"""Trackers beside a run: passing on, leaving out what is there, and failing alone."""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from nearfirst.contracts.problems import InvalidInput
from nearfirst.contracts.progress import Cancelled, Fenced, Interrupted
from nearfirst.contracts.runs import RunState
from nearfirst.contracts.training import MetricRow
from nearfirst_training.trackers import tracking as tracking_module
from nearfirst_training.trackers.tracker import parse_trackers
from nearfirst_training.trackers.tracking import Tracking, tracking


class MemoryTracker:
    """Keeps what it is told; raises where a test wants it to."""

    def __init__(self, last: dict[str, int] | None = None, fails_in: str | None = None) -> None:
        self.last = last or {}
        self.fails_in = fails_in
        self.told: list[tuple[str, Any]] = []

    def own_name(self, metric: str) -> str:
        return metric.upper()

    def start(self, run_id: str, spec: Mapping[str, Any]) -> dict[str, int]:
        self._tell("start", (run_id, dict(spec)))
        return dict(self.last)

    def metrics(self, rows: Sequence[MetricRow]) -> None:
        self._tell("metrics", [(row.name, row.step) for row in rows])

    def finish(self, state: RunState) -> None:
        self._tell("finish", state)

    def _tell(self, what: str, value: object) -> None:
        if self.fails_in == what:
            raise ConnectionError(f"no network in {what}")
        self.told.append((what, value))


def rows(*pairs: tuple[str, int]) -> list[MetricRow]:
    return [MetricRow(step=step, name=name, value=1.0) for name, step in pairs]


def test_what_a_tracker_has_is_not_written_again() -> None:
    tracker = MemoryTracker(last={"LOSS": 3})
    tracked = Tracking({"memory": lambda: tracker}, "job_1", {"seed": 1})
    tracked.metrics(rows(("loss", 2), ("lr", 2)))
    tracked.metrics(rows(("loss", 3)))
    tracked.metrics(rows(("loss", 4), ("lr", 4)))
    tracked.metrics(rows(("loss", 4), ("lr", 4)))
    tracked.metrics([])
    tracked.finish(RunState.SUCCEEDED)
    assert tracker.told == [
        ("start", ("job_1", {"seed": 1})),
        ("metrics", [("lr", 2)]),
        ("metrics", [("loss", 4), ("lr", 4)]),
        ("finish", RunState.SUCCEEDED),
    ]


@pytest.mark.parametrize("fails_in", ["start", "metrics", "finish"])
def test_a_tracker_that_fails_is_logged_once_and_leaves_the_others_alone(
    fails_in: str, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = MemoryTracker(), MemoryTracker(fails_in=fails_in)
    with caplog.at_level(logging.WARNING):
        tracked = Tracking({"bad": lambda: bad, "good": lambda: good}, "job_1", {})
        for step in range(1, 4):
            tracked.metrics(rows(("loss", step)))
        tracked.finish(RunState.SUCCEEDED)
    assert [what for what, _ in good.told] == ["start", "metrics", "metrics", "metrics", "finish"]
    assert [record.getMessage() for record in caplog.records] == [
        f"tracker bad failed and gets nothing more of this run: no network in {fails_in}"
    ]


def test_a_tracker_that_hangs_does_not_hold_up_the_run(caplog: pytest.LogCaptureFixture) -> None:
    release = threading.Event()

    class Hanging(MemoryTracker):
        def metrics(self, rows: Sequence[MetricRow]) -> None:
            release.wait(30)

    started_at = time.monotonic()
    tracked = Tracking({"hanging": Hanging}, "job_1", {})
    for step in range(1000):
        tracked.metrics(rows(("loss", step)))
    tracked.finish(RunState.SUCCEEDED, wait_s=0.1)
    assert time.monotonic() - started_at < 5
    assert "hanging" in caplog.text
    release.set()


@pytest.mark.parametrize(
    ("raised", "state"),
    [
        (None, RunState.SUCCEEDED),
        (Cancelled("x"), RunState.CANCELLED),
        (Interrupted("x"), RunState.QUEUED),
        (Fenced("x"), RunState.RUNNING),
        (ValueError("x"), RunState.FAILED),
    ],
)
def test_how_the_block_ends_is_how_the_run_has_ended(
    raised: Exception | None, state: RunState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = MemoryTracker()
    monkeypatch.setattr(tracking_module, "make_tracker", lambda _address, _folder: tracker)

    def run() -> None:
        with tracking("wandb:order", "job_1", {}, tmp_path):
            if raised is not None:
                raise raised

    if raised is None:
        run()
    else:
        with pytest.raises(type(raised)):
            run()
    assert tracker.told[-1] == ("finish", state)


def test_an_empty_setting_tracks_nothing(tmp_path: Path) -> None:
    with tracking("", "job_1", {}, tmp_path) as tracked:
        tracked.metrics(rows(("loss", 1)))


@pytest.mark.parametrize("setting", ["tensorboard", "neptune:x", "mlflow:", "wandb:a,tensorboard"])
def test_a_setting_that_is_not_understood_names_its_entry(setting: str) -> None:
    with pytest.raises(InvalidInput, match=r"trackers: got '.*', wanted tensorboard:/folder"):
        parse_trackers(setting)


@pytest.mark.parametrize("kind", ["tensorboard", "mlflow", "wandb"])
def test_a_library_that_is_not_installed_is_named_and_the_run_goes_on(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from nearfirst_training.trackers import tracker as tracker_module

    def absent(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(tracker_module, "import_module", absent)
    with tracking(f"{kind}:{tmp_path}", "job_1", {}, tmp_path) as tracked:
        tracked.metrics(rows(("loss", 1)))
    assert f"pip install 'nearfirst-training[{kind}]'" in caplog.text
