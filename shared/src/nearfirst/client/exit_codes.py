"""What the command line's exit codes say; docs/command-line.md has them command by command."""

from enum import IntEnum

from nearfirst.client.errors import ApiError, NotInstalled, ServerUnreachable, UnexpectedAnswer
from nearfirst.contracts import problems


class ExitCode(IntEnum):
    """For scripts: the same for all commands."""

    OK = 0
    """Done, and it came out well."""
    FAILED = 1
    """It was done or tried, and came out badly: a run failed or was cancelled, a proof doesn't hold, a part broke."""
    REFUSED = 2
    """It can't be done as it was asked for: a wrong option or file, a refusal of the server, a part not installed."""
    UNREACHABLE = 3
    """The server or the registry doesn't answer, or fails; the same command may work later."""
    INTERRUPTED = 130
    """Ctrl-C."""


EPILOG = (
    "Exit codes: 0 done; 1 it was tried and failed; 2 refused, as it was asked for; 3 the server can't be reached; "
    "130 interrupted."
)
"""Under each command's help."""

_FAILED = (problems.OrderMismatch, problems.NonFiniteLoss, problems.OutOfMemory)
"""Beside what has the status of a server's error."""
_UNREACHABLE = (ServerUnreachable, UnexpectedAnswer, problems.Unavailable)
_SERVER_ERRORS = 500


def exit_code_of(error: problems.NearfirstError) -> ExitCode:
    """With which code a command ends that raises this."""
    if isinstance(error, ApiError):
        return ExitCode.UNREACHABLE if error.answer.status >= _SERVER_ERRORS else ExitCode.REFUSED
    if isinstance(error, _UNREACHABLE):
        return ExitCode.UNREACHABLE
    if isinstance(error, NotInstalled):
        return ExitCode.REFUSED
    has_failed = isinstance(error, _FAILED) or error.status >= _SERVER_ERRORS
    return ExitCode.FAILED if has_failed else ExitCode.REFUSED
