"""A generation server as an engine: the process with the model stays up, whatever happens to its callers."""

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, wait
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from nearfirst.contracts.generation import (
    AdapterInfo,
    AdapterLoad,
    GenerationSettings,
    WeightInfo,
    WeightSwapRequest,
    WeightSwapResult,
)
from nearfirst.contracts.problems import (
    InvalidInput,
    NearfirstError,
    NotFound,
    NotReady,
    Problem,
    StateConflict,
    Unavailable,
)
from nearfirst.contracts.progress import Interrupted
from nearfirst_generation.completions import complete_batch
from nearfirst_generation.engine import Completion
from nearfirst_generation.schemas import ANY_MODEL, DIGEST_HEADER, ServedModels
from nearfirst_generation.settings import GenerationServerSettings

log = logging.getLogger(__name__)

ModelT = TypeVar("ModelT", bound=BaseModel)

_SWAP_ATTEMPTS = 10
"""Callers that want other weights of one server take turns; so often a batch is tried before that is reported."""
_RETRY_S = 1.0
_LOOK_S = 0.5
_UNLOADED = (StateConflict, NotReady, NotFound, Unavailable)
"""What a server answers that lost the weights meanwhile: others were loaded, it started again, its engine died."""


class ServerAway(Unavailable):
    """Nothing answers at the URL, for longer than a start takes."""


class RemoteEngine:
    """`Engine` on a generation server (`NEARFIRST_GENERATION_URL`).

    While nothing answers, or a server breaks off what it does because it ends, requests are sent again for `restart_s`.
    When the server has other weights than the ones that were loaded through this object, they are loaded again: sending
    an answer's request twice changes nothing.

    Every method raises Interrupted once `stopping` is set, however long the server, which may be starting a large
    model, takes for what it was asked.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 900,
        restart_s: float = 300,
        stopping: threading.Event | None = None,
    ) -> None:
        """Nothing is sent yet.

        Args:
            url: of the server.
            api_key: one of its keys.
            timeout_s: how long one batch or one swap may take.
            restart_s: how long a server may be away.
            stopping: set when this process shall end.
        """
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        limits = httpx.Limits(max_connections=None)
        self._http = httpx.Client(base_url=url.rstrip("/"), headers=headers, timeout=timeout_s, limits=limits)
        self._restart_s = restart_s
        self._stopping = stopping or threading.Event()
        self._weights: WeightSwapRequest | None = None
        self._adapters: dict[str, AdapterLoad] = {}
        self._max_length: int | None = None

    @classmethod
    def from_settings(
        cls, settings: GenerationServerSettings, stopping: threading.Event | None = None
    ) -> "RemoteEngine":
        """The server that NEARFIRST_GENERATION_URL names; it must be set."""
        assert settings.generation_url is not None
        key = settings.generation_api_key
        return cls(
            settings.generation_url,
            api_key=key.get_secret_value() if key else None,
            timeout_s=settings.generation_timeout_s,
            restart_s=settings.generation_restart_s,
            stopping=stopping,
        )

    @property
    def max_length(self) -> int:
        """Tokens of the loaded model's context."""
        if self._max_length is None:
            self._max_length = self._send("GET", "/v1/models", ServedModels).data[0].max_model_len
        return self._max_length

    def info(self) -> WeightInfo:
        """What the server has loaded."""
        return self._send("GET", "/weights", WeightInfo)

    def load(self, request: WeightSwapRequest) -> WeightSwapResult:
        """Have the server load a checkpoint, from a path of its own."""
        self._weights, self._adapters, self._max_length = None, {}, None
        result = self._send("POST", "/weights", WeightSwapResult, request.model_dump(mode="json"))
        self._weights = request
        return result

    def load_adapter(self, request: AdapterLoad) -> AdapterInfo:
        """Have the server serve an adapter."""
        info = self._send("POST", "/weights/adapters", AdapterInfo, request.model_dump(mode="json"))
        self._adapters[request.name] = request
        return info

    def complete(
        self,
        prompts: Sequence[Sequence[int]],
        settings: GenerationSettings,
        *,
        model_digest: str,
        indices: Sequence[int],
        adapter: str | None = None,
    ) -> list[Completion]:
        """Answers to a batch of prompts; see `Engine.complete`."""
        headers = {DIGEST_HEADER: model_digest}

        def send(body: dict[str, Any]) -> dict[str, Any]:
            return self._answer("POST", "/v1/completions", body, headers)

        for attempt in range(1, _SWAP_ATTEMPTS + 1):
            try:
                return complete_batch(
                    send,
                    prompts,
                    settings,
                    indices=indices,
                    model=adapter or ANY_MODEL,
                    max_length=self.max_length,
                )
            except ServerAway:
                raise
            except _UNLOADED as error:
                if attempt == _SWAP_ATTEMPTS or not self._can_load_again(model_digest, adapter):
                    raise
                log.warning("the generation server lost the weights, they are loaded again: %s", error.detail)
                self._load_again()
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Close the connections; the server and what it has loaded stay."""
        self._http.close()

    def _can_load_again(self, digest: str, adapter: str | None) -> bool:
        if self._weights is None:
            return False
        wanted = self._weights if adapter is None else self._adapters.get(adapter)
        return wanted is not None and wanted.digest == digest

    def _load_again(self) -> None:
        assert self._weights is not None
        adapters = list(self._adapters.values())
        self.load(self._weights)
        for adapter in adapters:
            self.load_adapter(adapter)

    def _send(self, method: str, path: str, model: type[ModelT], body: Any = None) -> ModelT:
        try:
            return model.model_validate(self._answer(method, path, body))
        except ValidationError as error:
            raise Unavailable(
                f"{method} {path}: the generation server's answer can't be understood: {error}"
            ) from error

    def _answer(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """One request, sent again while the server is away."""
        give_up_s = time.monotonic() + self._restart_s
        while True:
            try:
                response = self._patiently(method, path, body, headers)
                _require_from_application(response)
                break
            except httpx.ReadTimeout as error:
                raise Unavailable(f"{method} {path}: no answer from {self._http.base_url} in time") from error
            except httpx.TransportError as error:
                if time.monotonic() > give_up_s:
                    raise ServerAway(
                        f"nothing answers at {self._http.base_url} (NEARFIRST_GENERATION_URL): {error}"
                    ) from error
                if self._stopping.wait(_RETRY_S):
                    raise Interrupted("the worker shuts down") from error
        if response.is_error:
            raise _error_of(response, f"{method} {path}")
        try:
            value = response.json()
        except ValueError as error:
            raise Unavailable(f"{method} {path}: {self._http.base_url} is no generation server") from error
        return value if isinstance(value, dict) else {}

    def _patiently(self, method: str, path: str, body: Any, headers: dict[str, str] | None) -> httpx.Response:
        """One request, left to itself when this process shall end.

        A daemon's thread waits for the answer, for nothing else can break off a request of httpx.
        """
        answer: Future[httpx.Response] = Future()

        def send() -> None:
            try:
                answer.set_result(self._http.request(method, path, json=body, headers=headers))
            except Exception as error:  # noqa: BLE001 - raised again by whoever waits
                answer.set_exception(error)

        threading.Thread(target=send, name=f"{method} {path}", daemon=True).start()
        while not wait([answer], _LOOK_S).done:
            if self._stopping.is_set():
                raise Interrupted("the worker shuts down")
        return answer.result()


def _require_from_application(response: httpx.Response) -> None:
    """Take a failure that no application wrote for a broken connection: an application's are JSON.

    A server that is told to end breaks off its requests, and answers them with a bare 500; so does a proxy without it.

    Raises:
        httpx.RemoteProtocolError: it is one.
    """
    if response.is_server_error and "json" not in response.headers.get("content-type", ""):
        raise httpx.RemoteProtocolError(f"{response.status_code} {response.text[:500]}", request=response.request)


def _error_of(response: httpx.Response, what: str) -> NearfirstError:
    """An error answer as the exception that it was, or as the nearest one."""
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        detail = f"{what}: {response.status_code} {response.text[:500]}"
        return InvalidInput(detail) if response.status_code == httpx.codes.BAD_REQUEST else Unavailable(detail)
    kinds = {kind.code: kind for kind in _kinds(NearfirstError)}
    return kinds.get(problem.code, Unavailable)(problem.detail, errors=problem.errors)


def _kinds(kind: type[NearfirstError]) -> list[type[NearfirstError]]:
    """The errors of the contract; of two with one code the more general."""
    below = [each for child in kind.__subclasses__() for each in _kinds(child)]
    return [*below, kind] if kind.__module__ == NearfirstError.__module__ else below
