"""What can go wrong between the client and a server."""

from nearfirst.contracts.problems import NearfirstError, Problem


class ApiError(NearfirstError):
    """The server refused a request; `answer` is its whole problem, with the stable code and the HTTP status.

    `num_sends` is how often the request was sent: above 1, an earlier send may have been carried out and its answer
    lost.
    """

    def __init__(self, answer: Problem, num_sends: int = 1) -> None:
        super().__init__(answer.detail, errors=answer.errors)
        self.answer = answer
        self.num_sends = num_sends

    def problem(self) -> Problem:
        """The answer as the server sent it."""
        return self.answer


class ServerUnreachable(NearfirstError):
    """Nothing answers at the client's URL."""

    code = "server_unreachable"
    status = 503
    title = "Server unreachable"


class UnexpectedAnswer(NearfirstError):
    """The server answered with something that this version of the client can't read."""

    code = "unexpected_answer"
    status = 502
    title = "Unexpected answer"


class WaitTimeout(NearfirstError):
    """A run was still unfinished when the caller's time was up; the run itself goes on."""

    code = "wait_timeout"
    status = 504
    title = "Wait timed out"


class NotInstalled(NearfirstError):
    """This needs packages that aren't installed; the detail names the extra that brings them."""

    code = "not_installed"
    status = 501
    title = "Not installed"
