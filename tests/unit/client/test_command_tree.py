"""Every command, whoever contributes it: --json, help, and exit codes that are written down."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from nearfirst.client.cli import build_app
from nearfirst.client.demo.follow import RunFailed
from nearfirst.client.errors import ApiError, NotInstalled, ServerUnreachable, UnexpectedAnswer
from nearfirst.client.exit_codes import EPILOG, ExitCode, exit_code_of
from nearfirst.contracts import problems
from nearfirst.contracts.problems import Problem

PAGE = (Path(__file__).parents[3] / "docs" / "command-line.md").read_text(encoding="utf-8")


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Commands that do something, with what a user types."""
    below = getattr(command, "commands", None)
    if below is None:
        yield " ".join(path), command
        return
    for name, each in below.items():
        yield from leaves(each, (*path, name))


LEAVES = dict(leaves(get_command(build_app())))


def test_the_tree_has_what_each_service_contributes() -> None:
    assert {"arrange", "embed", "train", "metrics", "convert-reward-model", "plot", "study run", "key create"} <= set(
        LEAVES
    )


@pytest.mark.parametrize("name", LEAVES)
def test_a_command_has_json_help_and_exit_codes(name: str) -> None:
    command = LEAVES[name]
    options = {option: parameter for parameter in command.params for option in parameter.opts}
    assert "--json" in options
    assert options["--json"].is_flag
    assert not (command.help or "").startswith("(unavailable"), command.help
    assert len(command.help or "") > 20
    assert command.epilog == EPILOG
    without_help = [option for option, parameter in options.items() if not getattr(parameter, "help", None)]
    assert without_help == []


def test_the_page_documents_every_command_and_no_other() -> None:
    documented = re.findall(r"^\| `([a-z -]+)` \|", PAGE, re.MULTILINE)
    assert sorted(documented) == sorted(LEAVES)


def test_the_page_and_the_help_have_the_exit_codes() -> None:
    codes = {str(code.value) for code in ExitCode}
    assert set(re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)) == codes
    assert set(re.findall(r"\b\d+\b", EPILOG)) == codes


def refusal(status: int) -> ApiError:
    return ApiError(Problem(title="T", status=status, detail="d", code="c"))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (problems.InvalidInput("x"), 2),
        (problems.StateConflict("x"), 2),
        (NotInstalled("x"), 2),
        (refusal(404), 2),
        (refusal(422), 2),
        (problems.OrderMismatch("x"), 1),
        (problems.CorruptArtifact("x"), 1),
        (problems.NonFiniteLoss("x"), 1),
        (problems.CheckpointNotWritten("x"), 1),
        (RunFailed("x"), 1),
        (ServerUnreachable("x"), 3),
        (UnexpectedAnswer("x"), 3),
        (problems.Unavailable("x"), 3),
        (refusal(503), 3),
    ],
)
def test_an_error_ends_a_command_with_its_code(error: problems.NearfirstError, code: int) -> None:
    assert exit_code_of(error) == code
