"""`nearfirst demo` as a user runs it: its own suite, real encoder, real training, on a part of the bundled data."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from nearfirst.data.bundled import bundled_path

STEPS = 8
SMALL = ["--seeds", "2", "--train-tasks", "8", "--rows-per-task", "16", "--test-rows-per-task", "2"]


def demo_command(out: Path) -> list[str]:
    return [sys.executable, "-m", "nearfirst.client", "demo", "--data", str(bundled_path()), "--out", str(out), *SMALL]


def processes_of(home: Path) -> list[str]:
    """Command lines of the running processes that name the suite's folder."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_text().replace("\0", " ")
            environment = (folder / "environ").read_text()
        except OSError:
            continue
        if int(folder.name) != os.getpid() and (str(home) in command or f"NEARFIRST_HOME={home}" in environment):
            found.append(command)
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A demo that has ended: its folder, and what it printed."""
    out = tmp_path_factory.mktemp("demo")
    return out, subprocess.run(demo_command(out), capture_output=True, text=True, timeout=600, check=False)


@pytest.fixture(scope="module")
def report(finished: tuple[Path, subprocess.CompletedProcess[str]]) -> dict[str, Any]:
    out, result = finished
    assert result.returncode == 0, result.stderr
    content: dict[str, Any] = json.loads((out / "report.json").read_text())
    return content


@pytest.mark.timeout(700)
def test_the_report_has_every_arrangement_and_every_run(report):
    arrangements = {(row["method"], row["order"], row["seed"]) for row in report["arrangements"]}
    shuffles = {("tma", "rt", seed) for seed in (0, 1)}
    assert arrangements == {("tma", "nft", 0), ("tma", "fft", 0), ("wsd", "nft", 0)} | shuffles
    for row in report["arrangements"]:
        assert row["digest"].startswith("sha256:")
        assert row["num_rows"] == report["data"]["train"]["num_rows"]
        assert (row["num_rounds"] is None) == (row["method"] == "wsd")
    runs = {(run["method"], run["order"], run["seed"]) for run in report["runs"]}
    lines = (("tma", "nft"), ("tma", "fft"), ("tma", "rt"), ("wsd", "nft"))
    assert runs == {(*line, seed) for line in lines for seed in (0, 1)}


@pytest.mark.timeout(700)
def test_every_receipt_is_verified_and_no_two_runs_have_the_same(report):
    assert all(run["receipt_verified"] for run in report["runs"])
    heads = {(run["method"], run["order"]): set() for run in report["runs"]}
    for run in report["runs"]:
        heads[run["method"], run["order"]].add(run["receipt_head"])
    # The same order gives the same receipt whatever the model's seed; rt has an order for each seed.
    assert {line: len(found) for line, found in heads.items()} == {
        ("tma", "nft"): 1,
        ("tma", "fft"): 1,
        ("tma", "rt"): 2,
        ("wsd", "nft"): 1,
    }


@pytest.mark.timeout(700)
def test_every_run_is_measured_from_the_start_over_a_quarter_to_the_end(report):
    for run in report["runs"]:
        steps = [step for step, _ in run["test_loss"]]
        assert run["steps"] == STEPS
        assert {0, STEPS // 4, STEPS // 2, STEPS} <= set(steps)
        assert steps == sorted(steps)
        assert run["test_loss"][-1][1] < run["test_loss"][0][1]


@pytest.mark.timeout(700)
def test_runs_of_one_seed_start_from_the_same_weights(report):
    starts = {(run["seed"], run["test_loss"][0][1]) for run in report["runs"]}
    assert len(starts) == 2


@pytest.mark.timeout(700)
def test_the_files_say_nothing_of_this_machines_folders_and_the_figure_is_there(finished, report):
    out, result = finished
    assert str(out) not in (out / "report.json").read_text()
    assert "<svg" in (out / "figure.svg").read_text()
    with Image.open(out / "figure.png") as image:
        assert image.width == 1600
    for words in ("tma nft", "tma fft", "tma rt", "wsd nft", "2/2", str(out / "figure.png")):
        assert words in result.stdout


@pytest.mark.timeout(700)
def test_nothing_runs_on_after_the_demo(finished):
    assert processes_of(finished[0] / "home") == []


def test_ctrl_c_ends_the_demo_with_130_and_its_suite_with_it(tmp_path):
    demo = subprocess.Popen(demo_command(tmp_path), stderr=subprocess.PIPE, text=True)
    with demo:
        log = tmp_path / "home" / "up.log"
        deadline = time.monotonic() + 120
        while not (log.is_file() and "is up" in log.read_text()):
            assert demo.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
        demo.send_signal(signal.SIGINT)
        assert demo.wait(90) == 130
        assert demo.stderr is not None
        assert "Traceback" not in demo.stderr.read()
    assert processes_of(tmp_path / "home") == []
