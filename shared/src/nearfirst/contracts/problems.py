"""Errors that a user can cause, each with a stable code, and their shape on the wire (RFC 9457 problem+json)."""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, ClassVar

from pydantic import Field, ValidationError

from nearfirst.contracts.base import Contract

_MAX_SHOWN = 200
_MAX_PROBLEMS = 20


class FieldProblem(Contract):
    """One wrong field of a request."""

    field: str
    """Where it is, as a dotted path: `train.tasks.0`."""
    got: Any = None
    """What came."""
    wanted: str
    """What would have been right."""


class Problem(Contract):
    """The body of every error answer: `application/problem+json`."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    """Stable, for programs: never changes between versions."""
    errors: list[FieldProblem] = Field(default_factory=list)


class NearfirstError(Exception):
    """A failure with a reason that the user can act on.

    `detail` names the parameter, what came and what was wanted. Subclasses fix the stable `code`, the HTTP `status` and
    the `title`.
    """

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str, *, errors: list[FieldProblem] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors or []

    def problem(self) -> Problem:
        """This error as the body of an answer."""
        return Problem(title=self.title, status=self.status, detail=self.detail, code=self.code, errors=self.errors)


class InvalidInput(NearfirstError):
    """A value that can't be used, whatever the state of the system."""

    code = "invalid_input"
    status = 422
    title = "Invalid input"


class InvalidDataset(InvalidInput):
    """A dataset file that can't be read; the detail names the line or row. Nothing was registered."""

    code = "invalid_dataset"
    title = "Invalid dataset"


class InvalidEmbeddings(InvalidInput):
    """Embeddings with NaN, the wrong number of rows, or of different encoders or dimensions."""

    code = "invalid_embeddings"
    title = "Invalid embeddings"


class InvalidModel(InvalidInput):
    """A model folder that lacks weights, a tokenizer or a configuration, or that can't be trusted."""

    code = "invalid_model"
    title = "Invalid model"


class DoesNotFit(InvalidInput):
    """A job that needs more memory or disk than there is; the detail has both numbers."""

    code = "does_not_fit"
    title = "Does not fit"


class PathNotAllowed(NearfirstError):
    """A path outside the allowed roots, after `..` and symbolic links are resolved."""

    code = "path_not_allowed"
    status = 403
    title = "Path not allowed"


class SourceNotAllowed(NearfirstError):
    """A remote source that leads to a host or an address that this server doesn't read from."""

    code = "source_not_allowed"
    status = 403
    title = "Source not allowed"


class NotFound(NearfirstError):
    """Nothing has this id."""

    code = "not_found"
    status = 404
    title = "Not found"


class NotReady(NearfirstError):
    """The run exists but has no result yet."""

    code = "not_ready"
    status = 409
    title = "Not ready"


class StateConflict(NearfirstError):
    """The run's state doesn't allow this."""

    code = "state_conflict"
    status = 409
    title = "State conflict"


class IdempotencyConflict(NearfirstError):
    """The Idempotency-Key was used before with another body."""

    code = "idempotency_conflict"
    status = 409
    title = "Idempotency key reused"


class BodyTooLarge(NearfirstError):
    """The body is over the limit; the detail gives both sizes."""

    code = "body_too_large"
    status = 413
    title = "Body too large"


class Unavailable(NearfirstError):
    """Something that this request needs can't be reached now; other requests may work."""

    code = "unavailable"
    status = 503
    title = "Unavailable"


class Unauthorized(NearfirstError):
    """API keys are asked for and the request carries none, an unknown one, or one that was revoked."""

    code = "unauthorized"
    status = 401
    title = "Unauthorized"


class Forbidden(NearfirstError):
    """The API key is good, but its role doesn't allow this."""

    code = "forbidden"
    status = 403
    title = "Forbidden"


class TooManyRequests(NearfirstError):
    """The same request may be sent again after a while."""

    code = "too_many_requests"
    status = 429
    title = "Too many requests"

    def __init__(self, detail: str, *, retry_after_s: int) -> None:
        """`retry_after_s`: whole seconds to wait before it is sent again."""
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class RateLimited(TooManyRequests):
    """This key, or this address without a good key, asks more often than it may."""

    code = "rate_limited"


class Overloaded(TooManyRequests):
    """As many requests are in progress as the service takes."""

    code = "overloaded"


class CorruptArtifact(NearfirstError):
    """Stored bytes differ from their digest."""

    code = "corrupt_artifact"
    status = 500
    title = "Corrupt artifact"


class OrderMismatch(NearfirstError):
    """The rows that training would consume, or did consume, are not the arrangement's; the detail names the step."""

    code = "order_mismatch"
    status = 409
    title = "Order mismatch"


class NonFiniteLoss(NearfirstError):
    """Loss or gradient norm is not finite; the detail names the step and its ids. The update was not made."""

    code = "non_finite_loss"
    status = 422
    title = "Loss is not finite"


class OutOfMemory(NearfirstError):
    """A training process ran out of memory; the detail names the step and what was asked for."""

    code = "out_of_memory"
    status = 422
    title = "Out of memory"


class NotWritten(NearfirstError):
    """A file of a run couldn't be written: a full disk, say. Checkpoints are as they were."""

    code = "not_written"
    status = 500
    title = "Not written"


class CheckpointNotWritten(NotWritten):
    """A checkpoint couldn't be written: a full disk, or a folder that is gone. Earlier ones are as they were."""

    code = "checkpoint_not_written"
    title = "Checkpoint not written"


class Crashed(NearfirstError):
    """The process that did the work hung or vanished: the run is tried again, but not for ever."""


def invalid_input_from_validation(error: ValidationError, what: str) -> InvalidInput:
    """A pydantic error as an `InvalidInput` that names each wrong field.

    Args:
        error: what pydantic raised.
        what: what was being read, to start the detail with: `job file job.json`.
    """
    problems = field_problems(error.errors())
    listed = "; ".join(f"{problem.field}: {problem.wanted}" for problem in problems)
    return InvalidInput(f"{what}: {listed}", errors=problems)


def field_problems(entries: Iterable[Mapping[str, Any]]) -> list[FieldProblem]:
    """The entries of a pydantic (or FastAPI) validation error as field problems: the first of them, when they are many.

    A list of a hundred thousand wrong numbers has as many entries, and their answer would be far larger than the
    request.
    """
    problems = [_of_entry(entry) for entry in islice(entries, _MAX_PROBLEMS + 1)]
    if len(problems) > _MAX_PROBLEMS:
        problems[-1] = FieldProblem(field="(more)", wanted=f"further problems follow these {_MAX_PROBLEMS}")
    return problems


def _of_entry(entry: Mapping[str, Any]) -> FieldProblem:
    if entry["type"] == "json_invalid":
        place = "".join(f" at character {part}" for part in entry["loc"] if isinstance(part, int))
        return FieldProblem(field="(whole)", wanted=f"JSON, but{place}: {entry['ctx']['error']}")
    return _field_problem(entry["loc"], entry["type"], entry.get("input"), entry["msg"])


def _field_problem(location: tuple[int | str, ...], kind: str, got: object, message: str) -> FieldProblem:
    field = ".".join(str(part) for part in location if part != "body") or "(whole)"
    shown = got if got is None or isinstance(got, bool | int | str) else repr(got)
    if isinstance(shown, str) and len(shown) > _MAX_SHOWN:
        shown = shown[:_MAX_SHOWN] + "..."
    if kind == "extra_forbidden":
        return FieldProblem(field=field, got=shown, wanted="no such field is known")
    if kind == "missing":
        return FieldProblem(field=field, wanted="a value is required")
    wanted = message.removeprefix("Value error, ")
    if not location and kind == "value_error":  # fields that don't fit together: the message names them
        return FieldProblem(field=field, wanted=wanted)
    return FieldProblem(field=field, got=shown, wanted=wanted if kind == "value_error" else f"{wanted}, got {shown!r}")
