"""`nearfirst study` on a server: what is sent, what is printed where, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi import FastAPI, Request
from typer.testing import CliRunner

from nearfirst.client.study.commands import app as study_app
from nearfirst.contracts.problems import InvalidInput

Serve = Callable[[FastAPI], str]
ID = "std_0123456789abcdef"
PRESET = {
    "name": "p",
    "data": {"train": {"path": "rows.jsonl"}, "test": {"path": "rows.jsonl"}},
    "train": "train",
    "test": "test",
    "arrangements": [{"label": "a", "method": "as_is"}, {"label": "b", "method": "random"}],
    "training": {"model": {"name_or_path": "/m"}},
}


class Server:
    """A server with one study."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.spec: dict[str, Any] = {}
        self.app = FastAPI()
        self.app.add_api_route("/datasets", self.register, methods=["POST"], status_code=201)
        self.app.add_api_route("/studies", self.submit, methods=["POST"], status_code=202)
        self.app.add_api_route(f"/studies/{ID}", self.show)
        self.app.add_api_route(f"/studies/{ID}/{{action}}", self.act, methods=["POST"], status_code=202)

    def register(self) -> dict[str, Any]:
        return {
            "id": "ds_1", "name": "n", "digest": "sha256:00", "format": "p3", "split": None, "num_examples": 1,
            "num_tasks": 1, "created_at": "2026-01-01T00:00:00Z",
        }  # fmt: skip

    async def submit(self, request: Request) -> dict[str, str]:
        self.spec = await request.json()
        return {"id": ID, "state": "queued"}

    def show(self) -> dict[str, Any]:
        warnings = ["baseline: none is given"] if self.spec.get("baseline") is None else []
        return {
            "id": ID, "state": "queued", "is_paused": False, "spec": self.spec, "warnings": warnings,
            "created_at": "2026-01-01T00:00:00Z",
        }  # fmt: skip

    async def act(self, action: str, request: Request) -> dict[str, str]:
        body = await request.body()
        self.asked.append((action, json.loads(body) if body else None))
        return {"id": ID, "state": "running"}


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def run(serve: Serve, server: Server) -> Callable[..., Any]:
    """Arguments -> how the command ended; a user's error is raised as it is."""
    url = serve(server.app)

    def invoke(*arguments: str) -> Any:
        ended = CliRunner().invoke(study_app, [*arguments, "--url", url])
        if isinstance(ended.exception, InvalidInput):
            raise ended.exception
        return ended

    return invoke


@pytest.mark.parametrize("action", ["pause", "resume", "cancel"])
def test_an_action_is_sent_and_the_id_printed_or_the_answer_as_json(
    run: Callable[..., Any], server: Server, action: str
) -> None:
    assert run(action, ID).stdout == f"{ID}\n"
    assert json.loads(run(action, ID, "--json").stdout) == {"id": ID, "state": "running"}
    assert server.asked == [(action, None)] * 2


def test_seeds_are_added(run: Callable[..., Any], server: Server) -> None:
    assert run("seeds", ID, "3", "4").exit_code == 0
    assert server.asked == [("seeds", {"seeds": [3, 4]})]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("seeds", ID, "3", "3"), "seeds: 3 is given twice"),
        (("seeds", ID, "4294967296"), "seeds: got 4294967296, wanted whole numbers from 0 to 4294967295"),
        (("cancel", "job_1"), r"id: got 'job_1', wanted a study \(std_...\)"),
        (("resume", "job_1"), r"id: got 'job_1', wanted a study \(std_...\)"),
    ],
)
def test_what_can_t_be_meant_is_refused_before_anything_is_sent(
    run: Callable[..., Any], server: Server, arguments: tuple[str, ...], words: str
) -> None:
    with pytest.raises(InvalidInput, match=words):
        run(*arguments)
    assert server.asked == []


def write(folder: Path, **fields: Any) -> str:
    (folder / "rows.jsonl").write_text('{"inputs_pretokenized": "q", "targets_pretokenized": "a"}\n')
    (folder / "p.yaml").write_text(yaml.safe_dump(PRESET | fields))
    return str(folder / "p.yaml")


def test_a_study_without_a_baseline_is_warned_of_on_stderr_and_submitted(
    run: Callable[..., Any], server: Server, tmp_path: Path
) -> None:
    ended = run("run", write(tmp_path), "--json", "--home", str(tmp_path / "home"))
    assert ended.exit_code == 0, ended.output
    assert "warning: baseline: none is given" in ended.stderr
    assert json.loads(ended.stdout) == {"id": ID, "state": "queued"}
    assert server.spec["train"]["dataset"] == "ds_1"


@pytest.mark.parametrize(
    ("fields", "options", "words"),
    [
        ({"sedes": [1]}, (), "sedes: no such field is known"),
        ({"seeds": [1, 1]}, (), "seeds: 1 is used twice"),
        ({"scales": {"demo": {}}}, ("--scale", "huge"), r"scale: got 'huge'; preset p\.yaml has demo"),
    ],
)
def test_a_preset_that_is_wrong_is_refused_by_its_field_and_nothing_is_submitted(
    run: Callable[..., Any],
    server: Server,
    tmp_path: Path,
    fields: dict[str, Any],
    options: tuple[str, ...],
    words: str,
) -> None:
    with pytest.raises(InvalidInput, match=words):
        run("run", write(tmp_path, **fields), *options)
    assert server.spec == {}
