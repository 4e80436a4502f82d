"""The `nearfirst` command: its own commands and those that the installed services contribute."""

import sys
from collections.abc import Callable
from enum import StrEnum
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from typing import Annotated

import httpx
import typer
from typer.completion import completion_init, get_completion_script  # type: ignore[attr-defined]  # its public names

from nearfirst.client.demo.command import demo
from nearfirst.client.errors import NotInstalled
from nearfirst.client.exit_codes import EPILOG, ExitCode, exit_code_of
from nearfirst.client.key_commands import app as key
from nearfirst.client.operations_commands import backup, doctor, prune
from nearfirst.client.output import AsJson, print_json
from nearfirst.client.study.commands import app as study
from nearfirst.client.watch import watch
from nearfirst.contracts.problems import NearfirstError

COMMAND_GROUP = "nearfirst.commands"
"""Entry points whose value is a plain function with typer annotations."""
PROGRAM = "nearfirst"
COMPLETE_VARIABLE = "_NEARFIRST_COMPLETE"
"""Set by the completion scripts; typer looks for it under this name."""
DISTRIBUTIONS = (
    "nearfirst",
    "nearfirst-arrangement",
    "nearfirst-embedding",
    "nearfirst-training",
    "nearfirst-generation",
    "nearfirst-scoring",
)


class Shell(StrEnum):
    """Shells that complete commands."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def show_versions(as_json: AsJson = False) -> None:
    """Print the version of each installed part of Nearfirst."""
    versions = {name: _installed_version(name) for name in DISTRIBUTIONS}
    if as_json:
        print_json(versions)
        return
    for name, found in versions.items():
        typer.echo(f"{name} {found or '(not installed)'}")


def _installed_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def completion(
    shell: Annotated[Shell, typer.Argument(help="Whose completion it is.")], as_json: AsJson = False
) -> None:
    """Print a script that completes commands and options; docs/command-line.md says where it goes."""
    script = get_completion_script(prog_name=PROGRAM, complete_var=COMPLETE_VARIABLE, shell=shell.value)
    if as_json:
        print_json({"shell": shell.value, "script": script})
    else:
        typer.echo(script)


def build_app() -> typer.Typer:
    """The command line with every command that is installed."""
    app = typer.Typer(
        name=PROGRAM,
        help="Arrange instruction-tuning data for a test set, train in exactly that order, and prove it.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for name, function in (
        ("completion", completion),
        ("demo", demo),
        ("doctor", doctor),
        ("prune", prune),
        ("version", show_versions),
        ("watch", watch),
    ):
        app.command(name, epilog=EPILOG)(function)
    for name, group in (("backup", backup), ("key", key), ("study", study)):
        for command in group.registered_commands:
            command.epilog = EPILOG
        app.add_typer(group, name=name)
    for entry in sorted(entry_points(group=COMMAND_GROUP), key=lambda entry: entry.name):
        _add_command(app, entry)
    return app


def _add_command(app: typer.Typer, entry: EntryPoint) -> None:
    """Add a contributed command, or in its place one that says why it can't be loaded."""
    try:
        app.command(entry.name, epilog=EPILOG)(entry.load())
    except Exception as error:  # noqa: BLE001  (whatever one package's import raises, the other commands must work)
        app.command(entry.name, context_settings={"ignore_unknown_options": True})(_unavailable(entry, error))


def _unavailable(entry: EntryPoint, error: Exception) -> Callable[..., None]:
    distribution = entry.dist.name if entry.dist else entry.module
    reason = f"{type(error).__name__}: {error}".splitlines()[0]

    def unavailable(arguments: Annotated[list[str] | None, typer.Argument(hidden=True)] = None) -> None:
        raise NotInstalled(
            f"`{entry.name}` can't be loaded from {distribution} ({reason}); "
            f"`pip install {distribution}` installs what it needs"
        )

    unavailable.__doc__ = f"(unavailable: {reason})"
    return unavailable


def report_error(error: NearfirstError) -> None:
    """Print an error and its field problems to stderr."""
    typer.echo(f"error: {error.detail}", err=True)
    for problem in error.errors:
        if problem.got is None:  # the detail has it all
            continue
        typer.echo(f"  {problem.field}: got {problem.got!r}, wanted {problem.wanted}", err=True)


def main() -> None:
    """Run the command line; exits as `ExitCode` says."""
    completion_init()
    try:
        build_app()(prog_name=PROGRAM)
    except NearfirstError as error:
        report_error(error)
        sys.exit(exit_code_of(error))
    except OSError as error:  # a path of the user's that can't be written, a full disk
        typer.echo(f"error: {error}", err=True)
        sys.exit(ExitCode.REFUSED)
    except httpx.InvalidURL as error:
        typer.echo(f"error: not an address: {error}", err=True)
        sys.exit(ExitCode.REFUSED)
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
