"""What a swap does when vLLM fails at any of its steps, with a scripted vLLM: mixed weights never answer."""

import json
import os
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import save_file

from nearfirst.checkpoint_folder import open_checkpoint
from nearfirst.contracts.generation import GenerationSettings, WeightSwapRequest
from nearfirst.contracts.problems import InvalidModel, NotReady, StateConflict, Unavailable
from nearfirst_generation.settings import GenerationServerSettings
from nearfirst_generation.vllm_engine import VllmEngine

FAKE = Path(__file__).parents[2] / "support" / "fake_vllm.py"
CONFIG = {
    "model_type": "llama", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 16,
    "max_position_embeddings": 64,
}  # fmt: skip
SWAP_STEPS = [
    "/pause", "nearfirst_check", "nearfirst_reload", "/reset_prefix_cache", "/update_weight_version", "/resume",
    "/v1/completions",
]  # fmt: skip


@dataclass
class Scripted:
    """An engine on the scripted vLLM, and what it is told."""

    engine: VllmEngine
    root: Path

    def script(self, what: dict[str, str]) -> None:
        """From now on."""
        (self.root / "control.json").write_text(json.dumps(what))

    def asked(self) -> list[str]:
        """Since the last call."""
        log = self.root / "log"
        lines = log.read_text().splitlines()
        log.write_text("")
        return lines

    def request(self, name: str, **changes: object) -> WeightSwapRequest:
        folder = self.root / "models" / name
        fields = {"path": str(folder), "version": name, "digest": open_checkpoint(folder).digest}
        return WeightSwapRequest.model_validate(fields | changes)

    def answers(self, name: str) -> int:
        """The token that comes when this checkpoint is meant: its name's length, 999 for mixed weights."""
        (done,) = self.engine.complete(
            [[1, 2]], GenerationSettings(max_new_tokens=1), model_digest=self.request(name).digest, indices=[0]
        )
        return done.token_ids[0]

    def processes(self) -> list[psutil.Process]:
        return [each for each in psutil.Process().children(recursive=True) if FAKE.name in " ".join(each.cmdline())]


@pytest.fixture
def scripted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {FAKE} "$@"\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    for name in ("FAKE_VLLM_CONTROL", "FAKE_VLLM_LOG"):
        path = tmp_path / ("control.json" if name.endswith("CONTROL") else "log")
        path.write_text("{}" if name.endswith("CONTROL") else "")
        monkeypatch.setenv(name, str(path))
    for name in ("a", "bb", "ccc"):
        folder = tmp_path / "models" / name
        folder.mkdir(parents=True)
        hidden = 8 if name != "ccc" else 16
        (folder / "config.json").write_text(json.dumps(CONFIG | {"hidden_size": hidden}))
        save_file({"model.embed_tokens.weight": torch.zeros(16, hidden)}, folder / "model.safetensors")
    settings = GenerationServerSettings(vllm_python=python, vllm_device="cpu", vllm_step_s=1.0, vllm_start_s=20)
    engine = VllmEngine(settings, [tmp_path / "models"])
    yield Scripted(engine, tmp_path)
    engine.close()


def test_nothing_is_started_before_the_first_load(scripted: Scripted) -> None:
    with pytest.raises(NotReady, match="POST /weights"):
        scripted.engine.info()
    assert scripted.processes() == []


def test_a_swap_takes_its_steps_in_order(scripted: Scripted) -> None:
    first = scripted.engine.load(scripted.request("a"))
    scripted.asked()
    second = scripted.engine.load(scripted.request("bb"))
    assert scripted.asked() == SWAP_STEPS
    assert (first.previous, second.previous, second.loaded.num_swaps) == ("none", "a", 1)
    assert scripted.answers("bb") == 2
    with pytest.raises(StateConflict):
        scripted.answers("a")


@pytest.mark.parametrize(
    ("script", "error", "reason"),
    [
        ({"/pause": "error"}, Unavailable, "scripted"),
        ({"/pause": "hang"}, Unavailable, "didn't answer /pause"),
        ({"nearfirst_check": "refused"}, InvalidModel, "the engine refused .*bb: scripted"),
        ({"nearfirst_check": "error"}, Unavailable, "scripted"),
    ],
)
def test_before_the_reload_every_failure_leaves_the_old_weights_serving(
    script: dict[str, str], error: type[Exception], reason: str, scripted: Scripted
) -> None:
    scripted.engine.load(scripted.request("a"))
    started_at = scripted.engine.info().engine_started_at
    scripted.asked()
    scripted.script(script)
    with pytest.raises(error, match=reason):
        scripted.engine.load(scripted.request("bb"))
    asked = scripted.asked()
    assert asked[-1] == "/resume"
    assert "nearfirst_reload" not in asked
    assert scripted.answers("a") == 1
    assert scripted.engine.info().engine_started_at == started_at


@pytest.mark.parametrize(
    "script",
    [
        {"nearfirst_reload": "broken"},
        {"nearfirst_reload": "error"},
        {"nearfirst_reload": "die"},
        {"nearfirst_reload": "hang"},
        {"/reset_prefix_cache": "unsuccessful"},
        {"/resume": "error"},
    ],
    ids=lambda script: "-".join(*script.items()),
)
def test_after_a_reload_that_failed_the_engine_starts_again_with_the_previous_weights(
    script: dict[str, str], scripted: Scripted
) -> None:
    scripted.engine.load(scripted.request("a"))
    started_at = scripted.engine.info().engine_started_at
    scripted.script(script)
    with pytest.raises(Unavailable, match="was started again with a, which serves now"):
        scripted.engine.load(scripted.request("bb"))
    assert scripted.engine.info().engine_started_at > started_at
    assert scripted.answers("a") == 1
    assert len(scripted.processes()) == 1


def test_when_the_previous_weights_are_gone_too_nothing_answers_until_the_next_load(scripted: Scripted) -> None:
    scripted.engine.load(scripted.request("a"))
    wanted = scripted.request("a")
    scripted.script({"nearfirst_reload": "broken"})
    (scripted.root / "models" / "a").rename(scripted.root / "models" / "gone")
    with pytest.raises(Unavailable, match=r"a can't be loaded either: .*it may have been deleted"):
        scripted.engine.load(scripted.request("bb"))
    for ask in (scripted.engine.info, lambda: scripted.engine.complete(
        [[1]], GenerationSettings(), model_digest=wanted.digest, indices=[0]
    )):  # fmt: skip
        with pytest.raises(Unavailable, match="ended after a swap that failed"):
            ask()
    assert scripted.processes() == []
    scripted.script({})
    scripted.engine.load(scripted.request("bb"))
    assert scripted.answers("bb") == 2


def test_an_engine_that_was_killed_is_reported_and_started_by_the_next_load(scripted: Scripted) -> None:
    scripted.engine.load(scripted.request("a"))
    (process,) = scripted.processes()
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(Unavailable, match=r"(?s)ended by itself.*ended by signal 9"):
        scripted.answers("a")
    with pytest.raises(Unavailable, match="ended by itself"):
        scripted.engine.info()
    scripted.engine.load(scripted.request("bb"))
    assert scripted.answers("bb") == 2


def test_another_architecture_is_refused_unless_a_restart_is_allowed(scripted: Scripted) -> None:
    scripted.engine.load(scripted.request("a"))
    with pytest.raises(InvalidModel, match="hidden_size is 16, the running model's 8"):
        scripted.engine.load(scripted.request("ccc"))
    assert scripted.answers("a") == 1
    result = scripted.engine.load(scripted.request("ccc", allow_restart=True))
    assert (result.previous, result.loaded.num_swaps) == ("a", 0)
    assert scripted.answers("ccc") == 3
    assert len(scripted.processes()) == 1


def test_an_architecture_that_does_not_start_gives_way_to_the_previous_one(scripted: Scripted) -> None:
    scripted.engine.load(scripted.request("a"))
    scripted.script({"start": "fail"})
    with pytest.raises(Unavailable, match="can't be loaded either"):
        scripted.engine.load(scripted.request("ccc", allow_restart=True))
    scripted.script({"/v1/completions": "error"})
    with pytest.raises(Unavailable, match="scripted"):
        scripted.engine.load(scripted.request("a"))
    assert scripted.processes() == []


def test_a_start_that_fails_tells_the_end_of_the_log(scripted: Scripted) -> None:
    scripted.script({"start": "fail"})
    with pytest.raises(Unavailable, match=r"(?s)ended before it was ready.*scripted: no start"):
        scripted.engine.load(scripted.request("a"))
    assert scripted.processes() == []


def test_closing_ends_every_process_and_leaves_no_file(scripted: Scripted) -> None:
    scripted.engine.load(scripted.request("a"))
    scratch = scripted.engine.socket.parent
    assert stat.S_IMODE(scratch.stat().st_mode) == 0o700
    scripted.engine.close()
    assert scripted.processes() == []
    assert not scratch.exists()


def wait_for(what: Callable[[], object]) -> None:
    give_up_s = time.monotonic() + 30
    while not what():
        assert time.monotonic() < give_up_s
        time.sleep(0.05)


def test_closing_gives_up_an_engine_that_is_still_starting(scripted: Scripted) -> None:
    scripted.script({"start": "hang"})
    with ThreadPoolExecutor() as pool:
        load = pool.submit(scripted.engine.load, scripted.request("a"))
        wait_for(scripted.processes)
        began_s = time.monotonic()
        scripted.engine.close()
        with pytest.raises(Unavailable, match="given up: this server ends"):
            load.result()
    assert time.monotonic() - began_s < 10
    assert scripted.processes() == []


def test_closing_ends_a_swap_in_progress_and_starts_nothing_again(scripted: Scripted) -> None:
    scripted.engine.load(scripted.request("a"))
    scripted.asked()
    scripted.script({"nearfirst_reload": "hang"})
    with ThreadPoolExecutor() as pool:
        load = pool.submit(scripted.engine.load, scripted.request("bb"))
        wait_for(lambda: "nearfirst_reload" in (scripted.root / "log").read_text())
        scripted.engine.close()
        with pytest.raises(Unavailable, match=r"can't be loaded either: .*given up"):
            load.result()
    assert scripted.processes() == []
