"""Changes that happen once, also when the answer to the first request is lost."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from nearfirst.client.errors import ApiError
from nearfirst.contracts.runs import RunAccepted, RunState


class _HasState(Protocol):
    """Any run."""

    @property
    def id(self) -> str:
        """Of the run."""
        ...

    @property
    def state(self) -> RunState:
        """Where it is."""
        ...


RunT = TypeVar("RunT", bound=_HasState)


def changed_once(
    send: Callable[[], RunAccepted], look: Callable[[], RunT], has_happened: Callable[[RunT], bool]
) -> RunAccepted:
    """Ask for a change of a run.

    A server that carried out the first send, whose answer was lost, refuses the second: the change can't be made any
    more. Then the run itself says whether it was made.

    Args:
        send: asks for it; its request may be sent several times.
        look: gets the run.
        has_happened: whether a run is as the change leaves it.

    Raises:
        ApiError: refused.
    """
    try:
        return send()
    except ApiError as error:
        if error.num_sends == 1:
            raise
        run = look()
        if not has_happened(run):
            raise
        return RunAccepted(id=run.id, state=run.state)
