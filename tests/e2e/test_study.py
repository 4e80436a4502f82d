"""`nearfirst study run` as a user runs it: a suite of its own, killed in the middle and started again."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from sqlalchemy import select

from nearfirst.registry.database import Database
from nearfirst.registry.models import EventRow, RunRow

pytestmark = pytest.mark.slow

PRESET: dict[str, Any] = {
    "name": "small",
    "data": {"train": {"path": "bundled", "split": "train"}, "test": {"path": "bundled", "split": "test"}},
    "train": "train",
    "test": "test",
    "arrangements": [{"label": "as is", "method": "as_is"}, {"label": "shuffled", "method": "random"}],
    "baseline": "shuffled",
    "seeds": [0, 1],
    "tiny_model": {"layers": 1, "hidden_size": 32, "intermediate_size": 64, "heads": 2, "vocab_size": 512},
    "training": {
        "model": {"name_or_path": "tiny", "init": "random"},
        "global_batch_size": 8,
        "max_length": 256,
        "max_steps": 12,
        "checkpoint": {"weights_every": 4, "state_every": 4, "initial_weights": True},
    },
    "evaluation": {"num_examples": 60},
}


def command(folder: Path, *more: str) -> list[str]:
    study = [sys.executable, "-m", "nearfirst.client", "study", *more]
    return [*study, "--home", str(folder / "home")]


def has_begun(home: Path) -> bool:
    """Whether a train job has succeeded."""
    registry = home / "registry.sqlite"
    if not registry.exists():
        return False
    database = Database(f"sqlite:///{registry}")
    try:
        with database.read() as session:
            query = select(RunRow.id).where(RunRow.kind == "train_job", RunRow.state == "succeeded")
            return session.execute(query).first() is not None
    except Exception:  # noqa: BLE001  (its tables aren't there yet)
        return False
    finally:
        database.close()


def kill(command: subprocess.Popen[bytes], *, with_suite: bool) -> None:
    """Kill the command, which its suite survives long enough to put its work back; or all processes at once."""
    killed = [psutil.Process(command.pid)]
    if with_suite:
        killed += killed[0].children(recursive=True)
    for process in killed:
        process.send_signal(signal.SIGKILL)
    command.wait()


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("with_suite", [False, True], ids=["the command", "every process"])
def test_a_killed_study_goes_on_when_the_same_command_is_run_again_and_nothing_is_done_twice(
    tmp_path: Path, with_suite: bool
) -> None:
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(PRESET))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NEARFIRST_")}
    run = command(tmp_path, "run", str(tmp_path / "small.yaml"), "--watch", "--out", str(tmp_path / "out"))
    with (tmp_path / "log").open("wb") as log:
        first = subprocess.Popen(run, stdout=log, stderr=log, env=environment)
        deadline = time.monotonic() + 300
        while not has_begun(tmp_path / "home"):
            assert first.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        kill(first, with_suite=with_suite)
    again = subprocess.run(run, capture_output=True, text=True, timeout=600, env=environment, check=False)
    assert again.returncode == 0, again.stderr

    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert {outcome["arrangement"]: outcome["steps"] for outcome in report["outcomes"]} == {
        "as is": [0, 4, 8, 12],
        "shuffled": [0, 4, 8, 12],
    }
    assert all(run["receipt_verified"] for run in report["runs"])
    assert "<svg" in (tmp_path / "out" / "report.html").read_text()
    database = Database(f"sqlite:///{tmp_path / 'home' / 'registry.sqlite'}")
    with database.read() as session:
        told = session.execute(select(EventRow).where(EventRow.type == "state")).scalars()
        successes = Counter(row.run_id for row in told if row.data["state"] == "succeeded")
        kinds = Counter(session.execute(select(RunRow.kind)).scalars())
    database.close()
    assert set(successes.values()) == {1}
    assert (kinds["study"], kinds["arrangement"], kinds["train_job"], kinds["loss"]) == (1, 3, 4, 16)

    listed = subprocess.run(
        command(tmp_path, "list", "--json"), capture_output=True, text=True, timeout=120, check=True
    )
    assert [study["state"] for study in json.loads(listed.stdout)] == ["succeeded"]
