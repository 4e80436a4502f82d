"""HTTP below the typed client: errors, retries, pages and lines."""

import hashlib
import re
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

from nearfirst.client.errors import ApiError, ServerUnreachable, UnexpectedAnswer
from nearfirst.client.rows import Listing
from nearfirst.contracts.base import Contract
from nearfirst.contracts.problems import InvalidInput, Problem
from nearfirst.data.writing import whole_file

ModelT = TypeVar("ModelT", bound=BaseModel)

SEND_ATTEMPTS = 3
"""Sends of a request before a broken connection is reported."""
FIRST_PAUSE_S = 0.2
"""Pause before the second send; doubled for the third."""
_UNQUOTABLE = re.compile(r"\.{0,2}|.*[/\ud800-\udfff].*", re.DOTALL)
_BROKEN = (httpx.ReadError, httpx.WriteError, httpx.CloseError, httpx.RemoteProtocolError)


class Page(BaseModel):
    """A cursor page whose items are not validated yet."""

    items: list[Any]
    next_cursor: str | None = None


def path_to(*segments: str) -> str:
    """The path of these segments, each quoted: what an id holds never names another place.

    Raises:
        InvalidInput: a segment that can't be quoted (a lone surrogate), or that quoting doesn't keep in its place: an
            empty one, `.`, `..`, and one with a slash, which servers decode before they look for the route.

    >>> path_to("datasets", "ds_1?x", "examples")
    '/datasets/ds_1%3Fx/examples'
    """
    for segment in segments:
        if (
            segment in ("", ".", "..")
            or "/" in segment
            or any("\ud800" <= character <= "\udfff" for character in segment)
        ):
            raise InvalidInput(f"id: got {segment!r}, wanted one that the server gave, such as ds_0123456789abcdef")
    return "".join(f"/{quote(segment, safe='')}" for segment in segments)


def byte_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    r"""Lines of a byte stream, split at `\n` alone and without it.

    `httpx.Response.iter_lines` also splits at U+2028, U+0085 and others, which JSON strings may hold unescaped.

    >>> list(byte_lines([b"a\nb", b"c\n", b"d"]))
    [b'a', b'bc', b'd']
    """
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
    if rest:
        yield rest


def parse(model: type[ModelT], raw: bytes, source: str) -> ModelT:
    """A model from JSON bytes; `UnexpectedAnswer` names `source` when they are something else."""
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        raise UnexpectedAnswer(
            f"{source} answered with something that is no {model.__name__}: {_first_error(error)}"
        ) from error


class Transport:
    """One server's connections. Raises `ApiError` for refusals and `ServerUnreachable` when nothing answers."""

    def __init__(self, base_url: str, api_key: str | None, timeout_s: float) -> None:
        self.base_url = base_url.rstrip("/")
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeout_s = timeout_s
        self._http = httpx.Client(base_url=self.base_url, headers=headers, timeout=timeout_s)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def answers_ok(self, path: str) -> bool:
        """Whether `GET path` succeeds; False when nothing answers."""
        try:
            return self._http.get(path).is_success
        except httpx.TransportError:
            return False

    def get(self, model: type[ModelT], path: str, params: Mapping[str, str] | None = None) -> ModelT:
        """`GET path` as a model."""
        return parse(model, self._send("GET", path, params=params).content, f"GET {path}")

    def pages(
        self, model: type[ModelT], path: str, params: Mapping[str, str | list[str]] | None = None
    ) -> Iterator[ModelT]:
        """The items of a paged list, in the server's order, asking for the next page when it is needed.

        A parameter that is a list is sent once for each of its values.
        """
        query = dict(params or {})
        items = TypeAdapter(list[model])  # type: ignore[valid-type]
        while True:
            raw = self._send("GET", path, params=query).content
            page = parse(Page, raw, f"GET {path}")
            try:
                yield from items.validate_python(page.items)
            except ValidationError as error:
                raise UnexpectedAnswer(
                    f"GET {path} lists something that is no {model.__name__}: {_first_error(error)}"
                ) from error
            if page.next_cursor is None:
                return
            query["cursor"] = page.next_cursor

    def listing(
        self, model: type[ModelT], path: str, params: Mapping[str, str | list[str]] | None = None
    ) -> Listing[ModelT]:
        """As `pages`, and a table of its own."""
        return Listing(self.pages(model, path, params), model)

    def post(self, model: type[ModelT], path: str, body: Contract, idempotency_key: str | None = None) -> ModelT:
        """`POST path` with a JSON body, once: sent again only after a broken connection and under the same key.

        Args:
            model: of the answer.
            path: of the request.
            body: sent as JSON, without the fields that nobody set.
            idempotency_key: None: a new one.

        Raises:
            InvalidInput: a key that no header can carry.
        """
        if idempotency_key is not None and not (idempotency_key.isascii() and idempotency_key.isprintable()):
            raise InvalidInput(f"idempotency_key: got {idempotency_key!r}, wanted printable ASCII, as headers take")
        headers = _new_key(idempotency_key) | {"Content-Type": "application/json"}
        content = body.model_dump_json(exclude_unset=True).encode()
        response = self._send("POST", path, headers=headers, content=content)
        return parse(model, response.content, f"POST {path}")

    def post_action(self, model: type[ModelT], path: str) -> ModelT:
        """`POST path` without a body, sent again as with `post`.

        A server that carried out the first send may refuse the second: then `ApiError.num_sends` is above 1.
        """
        return parse(model, self._send("POST", path, headers=_new_key()).content, f"POST {path}")

    def upload(self, model: type[ModelT], path: str, files: Mapping[str, Any], data: Mapping[str, str]) -> ModelT:
        """`POST path` as multipart/form-data, sent again as with `post`; the files are read from their beginnings."""
        response = self._send("POST", path, headers=_new_key(), files=files, data=dict(data))
        return parse(model, response.content, f"POST {path}")

    @contextmanager
    def stream(
        self,
        path: str,
        params: Mapping[str, str] | None = None,
        read_timeout_s: float | None = None,
    ) -> Iterator[Iterator[bytes]]:
        """The body of `GET path` as it comes, in chunks.

        Raises `httpx.TransportError` while the body is read, so that a caller who can continue may do so.
        """
        timeout = httpx.Timeout(self._timeout_s, read=read_timeout_s or self._timeout_s)
        request = self._http.build_request("GET", path, params=params, timeout=timeout)
        response = self._connected(request, stream=True)
        try:
            if response.is_error:
                response.read()
                raise _api_error(response)
            yield response.iter_bytes()
        finally:
            response.close()

    def download(
        self,
        path: str,
        target: Path,
        params: Mapping[str, str] | None = None,
        read_timeout_s: float | None = None,
    ) -> str:
        """Write the body of `GET path` to a file, which appears only once it is complete.

        Args:
            path: of the request.
            target: the file; one that is there is replaced.
            params: of the request.
            read_timeout_s: wait so long for the next bytes; None: the connection's timeout.

        Returns:
            The digest of what was written: `sha256:<hex>`.
        """
        digest = hashlib.sha256()
        try:
            with self.stream(path, params, read_timeout_s) as chunks, whole_file(target) as out:
                for chunk in chunks:
                    digest.update(chunk)
                    out.write(chunk)
        except httpx.TransportError as error:
            detail = f"the connection to {self.base_url} broke while {target.name} came: {error}"
            raise ServerUnreachable(detail) from error
        return f"sha256:{digest.hexdigest()}"

    def lines(self, model: type[ModelT], path: str, params: Mapping[str, str] | None = None) -> Iterator[ModelT]:
        """The JSON lines of `GET path`, as they come."""
        try:
            with self.stream(path, params) as chunks:
                for line in byte_lines(chunks):
                    yield parse(model, line, f"GET {path}")
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def _send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """One request and its answer; sent again, with the same headers, after a connection that broke."""
        for attempt in range(1, SEND_ATTEMPTS + 1):
            try:
                response = self._connected(self._http.build_request(method, path, **arguments))
            except ServerUnreachable as error:
                if attempt == SEND_ATTEMPTS or not isinstance(error.__cause__, _BROKEN):
                    raise
                time.sleep(FIRST_PAUSE_S * 2 ** (attempt - 1))
                continue
            if response.is_error:
                raise _api_error(response, num_sends=attempt)
            return response
        raise AssertionError("the last attempt returns or raises")

    def _connected(self, request: httpx.Request, *, stream: bool = False) -> httpx.Response:
        try:
            return self._http.send(request, stream=stream)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        except httpx.InvalidURL as error:
            raise ServerUnreachable(f"{self.base_url} is no URL of a server: {error}") from error

    def _unreachable(self, error: httpx.TransportError) -> ServerUnreachable:
        if isinstance(error, httpx.ConnectError):
            reason = f"nothing answers at {self.base_url} ({error})"
            return ServerUnreachable(f"{reason}: start a server with `nearfirst up`, or set NEARFIRST_URL to one")
        if isinstance(error, httpx.TimeoutException):
            return ServerUnreachable(f"{self.base_url} did not answer within {self._timeout_s:g} s")
        return ServerUnreachable(f"the connection to {self.base_url} broke: {error or type(error).__name__}")


def _first_error(error: ValidationError) -> str:
    """The first thing wrong, on one line."""
    first = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the body'}: {first['msg']}"


def _new_key(key: str | None = None) -> dict[str, str]:
    """The header by which a server tells a request that is sent again from another one."""
    return {"Idempotency-Key": key or uuid.uuid4().hex}


def _api_error(response: httpx.Response, num_sends: int = 1) -> ApiError:
    """The refusal in a response, also when a proxy and not Nearfirst wrote it."""
    try:
        return ApiError(Problem.model_validate_json(response.content), num_sends)
    except ValidationError:
        detail = f"{response.request.method} {response.request.url} answered {response.status_code}: "
        detail += response.text[:200].strip() or response.reason_phrase
        title = response.reason_phrase or "Error"
        return ApiError(Problem(title=title, status=response.status_code, detail=detail, code="http_error"), num_sends)
