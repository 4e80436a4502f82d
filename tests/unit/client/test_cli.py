import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse, Response

COMMANDS = '''
from nearfirst.contracts.problems import FieldProblem, InvalidInput

def refuse() -> None:
    """Refuses."""
    raise InvalidInput("lr: got -1, wanted above 0", errors=[FieldProblem(field="optimizer.lr", got=-1, wanted="> 0")])

def interrupt() -> None:
    """Is interrupted."""
    raise KeyboardInterrupt

def fine(number: int) -> None:
    """Adds one."""
    print(number + 1)
'''


@pytest.fixture
def nearfirst(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command line in an environment with one more package, of which some commands can't be loaded."""
    site = tmp_path / "site"
    info = site / "extra_commands-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "extra_commands.py").write_text(COMMANDS)
    (site / "broken_commands.py").write_text("import a_package_that_is_absent\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: extra-commands\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[nearfirst.commands]\n"
        "refuse = extra_commands:refuse\ninterrupt = extra_commands:interrupt\nfine = extra_commands:fine\n"
        "broken = broken_commands:run\nabsent = extra_commands:no_such_function\n"
    )

    path = [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "nearfirst.client", *arguments],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path), "COLUMNS": "200"} | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def test_help_lists_own_and_contributed_commands_also_beside_broken_ones(nearfirst):
    result = nearfirst("--help")
    assert result.returncode == 0
    for command in ("demo", "version", "watch", "refuse", "fine", "Adds one."):
        assert command in result.stdout
    assert "Traceback" not in result.stdout + result.stderr


def test_a_contributed_command_runs_with_its_arguments(nearfirst):
    result = nearfirst("fine", "41")
    assert (result.returncode, result.stdout) == (0, "42\n")


def test_a_users_error_is_printed_with_its_fields_and_exits_2(nearfirst):
    result = nearfirst("refuse")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.splitlines() == ["error: lr: got -1, wanted above 0", "  optimizer.lr: got -1, wanted > 0"]


@pytest.mark.parametrize(
    ("command", "reason"), [("broken", "a_package_that_is_absent"), ("absent", "no_such_function")]
)
def test_a_command_that_cannot_be_loaded_says_why_in_one_line(nearfirst, command, reason):
    result = nearfirst(command, "with", "--any", "arguments")
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert reason in line
    assert "pip install extra-commands" in line


def test_an_interrupt_exits_130_without_a_traceback(nearfirst):
    result = nearfirst("interrupt")
    assert result.returncode == 130
    assert "Traceback" not in result.stderr


def test_a_wrong_argument_exits_2(nearfirst):
    assert nearfirst("fine", "many").returncode == 2


def test_version_names_every_distribution(nearfirst):
    lines = nearfirst("version").stdout.splitlines()
    assert [line.split()[0] for line in lines] == [
        "nearfirst",
        "nearfirst-arrangement",
        "nearfirst-embedding",
        "nearfirst-training",
        "nearfirst-generation",
        "nearfirst-scoring",
    ]


def test_watch_of_an_absent_server_names_it_and_exits_3(nearfirst, refused_url):
    result = nearfirst("watch", "job_1", "--json", NEARFIRST_URL=refused_url)
    assert (result.returncode, result.stdout) == (3, "")
    assert refused_url in result.stderr
    assert "nearfirst up" in result.stderr


def test_version_as_json_is_one_document(nearfirst):
    versions = json.loads(nearfirst("version", "--json").stdout)
    assert next(iter(versions)) == "nearfirst"
    assert len(versions) == 6


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not there")
def test_the_completion_script_completes_commands_options_and_choices_in_bash(nearfirst, tmp_path):
    script = nearfirst("completion", "bash").stdout
    program = tmp_path / "nearfirst"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m nearfirst.client "$@"\n')
    program.chmod(0o755)

    def completed(*words: str) -> list[str]:
        line = " ".join(f"'{word}'" for word in words)
        program_text = f"{script}\nCOMP_WORDS=({line})\nCOMP_CWORD={len(words) - 1}\n"
        program_text += '_nearfirst_completion nearfirst\nprintf "%s\\n" "${COMPREPLY[@]}"\n'
        path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
        ended = subprocess.run(
            ["bash", "-c", program_text], env=os.environ | {"PATH": path}, capture_output=True, text=True, check=True
        )
        return ended.stdout.split()

    assert completed("nearfirst", "stu") == ["study"]
    assert {"run", "list", "pause", "seeds"} <= set(completed("nearfirst", "study", ""))
    assert "--json" in completed("nearfirst", "watch", "--")
    assert completed("nearfirst", "completion", "f") == ["fish"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_scripts_name_the_program(nearfirst, shell):
    answer = json.loads(nearfirst("completion", shell, "--json").stdout)
    assert answer["shell"] == shell
    assert "_NEARFIRST_COMPLETE" in answer["script"]


def test_completion_for_an_unknown_shell_exits_2(nearfirst):
    result = nearfirst("completion", "csh")
    assert (result.returncode, result.stdout) == (2, "")


def job_app(last_state: str, **fields: Any) -> FastAPI:
    """A job that runs until its events are asked for, and then ends."""
    app = FastAPI()
    asked = []
    spec = {"arrangement": "arr_1", "model": {"name_or_path": "m"}}

    @app.get("/train-jobs/job_1")
    def show() -> dict[str, Any]:
        if not asked:
            return {"id": "job_1", "state": "running", "spec": spec}
        return {"id": "job_1", "state": last_state, "spec": spec} | fields

    @app.get("/train-jobs/job_1/metrics")
    def metrics(name: str) -> dict[str, Any]:
        return {"items": [{"step": 3, "name": name, "value": 1.5}], "next_cursor": None}

    @app.get("/events")
    def events(run: str, after: int) -> Response:
        rows = [
            ("progress", {"done": 3, "total": 4, "unit": "steps", "eta_s": 61.0}),
            ("state", {"state": last_state, "attempt": 1}),
        ]
        asked.append(after)
        texts = []
        for seq, (kind, data) in enumerate(rows, start=1):
            body = {"seq": seq, "run_id": run, "kind": "train_job", "type": kind, "data": data}
            body["created_at"] = "2026-01-01T00:00:00Z"
            texts.append(f"id: {seq}\nevent: {kind}\ndata: {json.dumps(body)}\n\n")
        return PlainTextResponse("".join(texts), media_type="text/event-stream")

    return app


def test_watch_exits_0_when_the_run_succeeds_and_shows_progress_and_losses(nearfirst, serve):
    result = nearfirst("watch", "job_1", "--url", serve(job_app("succeeded", receipt_head="ab12")))
    assert result.returncode == 0, result.stderr
    assert "3/4" in result.stderr
    assert "ETA 1:01" in result.stderr
    assert "test_loss 1.5000 @3" in result.stderr
    assert "job_1: succeeded (receipt head ab12)" in result.stderr


def test_watch_exits_1_with_the_reason_when_the_run_fails(nearfirst, serve):
    error = {"title": "T", "status": 422, "detail": "loss is nan at step 3", "code": "non_finite_loss"}
    result = nearfirst("watch", "job_1", "--json", "--url", serve(job_app("failed", error=error)))
    assert result.returncode == 1
    assert json.loads(result.stdout)["state"] == "failed"
    assert "job_1: failed (loss is nan at step 3)" in result.stderr
