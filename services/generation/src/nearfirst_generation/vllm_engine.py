"""vLLM as an engine: started with the first checkpoint, then swapped in place for each of the others.

A swap: look at the folder (`verification`); pause; look again inside the engine and reload (`worker_extension`);
reset the prefix cache, or tokens of the old weights come out; name the weights; resume; a canary answer. Whatever goes
wrong before the reload leaves the old weights serving. After a reload that went wrong the engine may hold two models
mixed: it is ended, and the previous checkpoint is started again.
"""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import NoReturn

from nearfirst.checkpoint_folder import open_checkpoint
from nearfirst.contracts.generation import (
    AdapterInfo,
    AdapterLoad,
    CanaryCheck,
    GenerationSettings,
    WeightInfo,
    WeightSwapRequest,
    WeightSwapResult,
)
from nearfirst.contracts.problems import (
    InvalidInput,
    InvalidModel,
    NearfirstError,
    NotReady,
    StateConflict,
    Unavailable,
)
from nearfirst_generation.completions import complete_batch
from nearfirst_generation.engine import Completion
from nearfirst_generation.readers_writer import ReadersWriter
from nearfirst_generation.settings import GenerationServerSettings
from nearfirst_generation.verification import Checkpoint, require_fit, verify_adapter, verify_checkpoint
from nearfirst_generation.vllm_client import VllmClient
from nearfirst_generation.vllm_process import SERVED_MODEL, VllmProcess, context_length

log = logging.getLogger(__name__)

NO_VERSION = "none"
"""`WeightSwapResult.previous` of the first load."""
_CANARY_PROMPT = "User: Hello\nAssistant: "
_CANARY_TOKENS = 8
_MAX_SHOWN = 3
_DYING_S = 5.0
"""An engine whose request failed gets so long to end, before it is taken to live."""


@dataclass(slots=True)
class _Loaded:
    """A running engine and what is in it."""

    process: VllmProcess
    checkpoint: Checkpoint
    request: WeightSwapRequest
    info: WeightInfo


class VllmEngine:
    """`Engine` on a vLLM process of its own."""

    def __init__(self, settings: GenerationServerSettings, roots: Sequence[Path]) -> None:
        """Nothing is started yet.

        Args:
            settings: how vLLM is started.
            roots: folders that checkpoints may be in.
        """
        self._settings = settings
        self._roots = roots
        self._weights = ReadersWriter()
        self._loading = threading.Lock()
        self._loaded: _Loaded | None = None
        self._death: str | None = None
        self._closing = threading.Event()

    @property
    def max_length(self) -> int:
        """Tokens of the loaded model's context under these settings."""
        return context_length(self._settings, self._running().checkpoint.layout)

    @property
    def socket(self) -> Path:
        """Where the running vLLM listens, for a server that passes requests on."""
        return self._running().process.socket

    def info(self) -> WeightInfo:
        """What is loaded."""
        return self._running().info

    def load(self, request: WeightSwapRequest) -> WeightSwapResult:
        """Load a checkpoint; see `Engine.load`."""
        with self._loading:
            checkpoint = verify_checkpoint(request.path, request.digest, self._roots)
            previous = self._loaded
            if previous is None or not previous.process.is_alive:
                return self._start(request, checkpoint, previous)
            try:
                require_fit(previous.checkpoint.layout, checkpoint)
            except InvalidModel:
                if not request.allow_restart:
                    raise
                return self._start(request, checkpoint, previous)
            return self._swap(request, checkpoint, previous)

    def load_adapter(self, request: AdapterLoad) -> AdapterInfo:
        """Serve an adapter until the next swap: it belongs to the weights that it was loaded beside.

        When `vllm_max_loras` are served already, the one that was loaded first makes room.
        """
        max_loras = self._settings.vllm_max_loras
        if not max_loras:
            raise Unavailable("this engine was started without adapters: set NEARFIRST_VLLM_MAX_LORAS")
        with self._loading, self._weights.writing():
            loaded = self._running()
            layout = loaded.checkpoint.layout
            adapter = verify_adapter(
                request.path, request.digest, self._roots, layout, self._settings.vllm_max_lora_rank
            )
            is_replacement = any(each.name == request.name for each in loaded.info.adapters)
            others = [each for each in loaded.info.adapters if each.name != request.name]
            client = loaded.process.client
            with self._asking():
                if len(others) >= max_loras:
                    client.unload_adapter(others.pop(0).name)
                    loaded.info = loaded.info.model_copy(update={"adapters": others})
                client.load_adapter(request.name, adapter.folder.path.resolve(), is_replacement=is_replacement)
                client.forget_prefixes()  # an adapter's prefixes are cached under its name
            entry = AdapterInfo(
                name=request.name, digest=request.digest, path=str(adapter.folder.path), loaded_at=_now()
            )
            loaded.info = loaded.info.model_copy(update={"adapters": [*others, entry]})
            return entry

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
        with self._weights.reading():
            loaded = self._running()
            require_digest(loaded.info, model_digest, adapter)
            with self._asking():
                return complete_batch(
                    loaded.process.client.complete,
                    prompts,
                    settings,
                    indices=indices,
                    model=adapter or SERVED_MODEL,
                    max_length=self.max_length,
                )

    def require_alive(self) -> None:
        """After a request that failed: wait a moment for an engine that is about to end.

        Raises:
            Unavailable: it has ended; the detail has the end of its log.
        """
        self._running().process.has_ended_within(_DYING_S)
        self._running()

    def close(self) -> None:
        """End the process, whatever it does; a load in progress is given up. There is no way back."""
        self._closing.set()
        loaded = self._loaded
        if loaded is not None:
            loaded.process.end()
        with self._loading:
            if self._loaded is not None:
                self._loaded.process.end()
            self._loaded = None

    def _running(self) -> _Loaded:
        loaded = self._loaded
        if loaded is None:
            if self._death is not None:
                raise Unavailable(f"{self._death}; the next POST /weights starts it again")
            raise NotReady("no weights are loaded yet: POST /weights names a checkpoint")
        if not loaded.process.is_alive:
            raise Unavailable(
                f"vLLM, with {loaded.info.version}, ended by itself; the next POST /weights starts it again. The end "
                f"of its log:\n{loaded.process.last_words()}"
            )
        return loaded

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Turn a failed request into what is behind it: an engine that has died."""
        try:
            yield
        except Unavailable:
            self.require_alive()
            raise

    def _swap(self, request: WeightSwapRequest, checkpoint: Checkpoint, previous: _Loaded) -> WeightSwapResult:
        with self._weights.writing():
            began_s = monotonic()
            try:
                canary = self._reload(request, checkpoint, previous.process.client)
            except _OldWeightsServe as error:
                raise error.reason from error
            except NearfirstError as error:
                self._go_back(previous, error)
            info = previous.info.model_copy(
                update=_identity(request, checkpoint) | {"num_swaps": previous.info.num_swaps + 1}
            )
            self._loaded = _Loaded(previous.process, checkpoint, request, info)
            return WeightSwapResult(
                previous=previous.info.version, loaded=info, canary=canary, paused_s=monotonic() - began_s
            )

    def _reload(self, request: WeightSwapRequest, checkpoint: Checkpoint, client: VllmClient) -> CanaryCheck:
        """The steps inside the engine.

        Raises:
            _OldWeightsServe: it was refused before a weight was touched.
            NearfirstError: anything else; what the engine holds is unknown.
        """
        folder = str(checkpoint.folder.path.resolve())
        try:
            client.pause()
            _require_consent(client, folder)
        except NearfirstError as error:
            client.resume()
            raise _OldWeightsServe(error) from error
        verdicts = client.ask_workers("nearfirst_reload", folder)
        failures = [reason for verdict in verdicts for reason in verdict.get("reasons", [])]
        if failures or any(verdict["state"] != "loaded" for verdict in verdicts):
            raise Unavailable(f"the reload of {folder} failed half-way: {'; '.join(failures[:_MAX_SHOWN])}")
        if open_checkpoint(checkpoint.folder.path).digest != request.digest:
            raise Unavailable(f"checkpoint {folder} changed while it was loaded")
        for adapter in self._running().info.adapters:
            client.unload_adapter(adapter.name)
        client.forget_prefixes()
        client.name_weights(request.version)
        client.resume()
        return _canary(client)

    def _go_back(self, previous: _Loaded, error: NearfirstError) -> NoReturn:
        """End an engine whose weights may be mixed, and start one with the previous checkpoint.

        Raises:
            Unavailable: always; the detail says what serves now.
        """
        log.error("a swap failed, the engine starts again with %s: %s", previous.info.version, error.detail)
        self._end(f"vLLM was ended after a swap that failed ({error.detail})", previous)
        try:
            self._run(previous.request, verify_checkpoint(previous.request.path, previous.request.digest, self._roots))
        except NearfirstError as second:
            raise Unavailable(
                f"{error.detail}; the previous weights {previous.info.version} can't be loaded either: {second.detail}"
            ) from error
        raise Unavailable(
            f"{error.detail}; the engine was started again with {previous.info.version}, which serves now"
        ) from error

    def _start(self, request: WeightSwapRequest, checkpoint: Checkpoint, previous: _Loaded | None) -> WeightSwapResult:
        """Start an engine, in place of one of another architecture or one that died.

        When the new one doesn't start where an old one ran, the old one is started again.
        """
        with self._weights.writing():
            began_s = monotonic()
            was_alive = previous is not None and previous.process.is_alive
            if previous is not None:
                self._end("vLLM was ended for another model", previous)
            try:
                canary = self._run(request, checkpoint)
            except NearfirstError as error:
                if previous is not None and was_alive:
                    self._go_back(previous, error)
                raise
            return WeightSwapResult(
                previous=previous.info.version if previous else NO_VERSION,
                loaded=self._running().info,
                canary=canary,
                paused_s=monotonic() - began_s,
            )

    def _run(self, request: WeightSwapRequest, checkpoint: Checkpoint) -> CanaryCheck:
        """Start vLLM with a checkpoint as its model."""
        folder = checkpoint.folder.path.resolve()
        process = VllmProcess(self._settings, folder, checkpoint.layout, self._closing.is_set)
        try:
            process.client.name_weights(request.version)
            canary = _canary(process.client)
            info = WeightInfo.model_validate(
                _identity(request, checkpoint)
                | {
                    "num_swaps": 0,
                    "engine": "vllm",
                    "engine_version": process.client.version(),
                    "engine_started_at": _now(),
                    **process.client.ask_workers("nearfirst_describe")[0],
                }
            )
        except BaseException:
            process.end()
            raise
        self._loaded, self._death = _Loaded(process, checkpoint, request, info), None
        return canary

    def _end(self, why: str, loaded: _Loaded) -> None:
        loaded.process.end()
        self._loaded, self._death = None, why


class _OldWeightsServe(Exception):
    """A swap was refused in time."""

    def __init__(self, reason: NearfirstError) -> None:
        super().__init__(reason.detail)
        self.reason = reason


def _require_consent(client: VllmClient, folder: str) -> None:
    """Refuse a folder that a worker finds something wrong with.

    Raises:
        InvalidModel: it names what.
    """
    reasons = [reason for verdict in client.ask_workers("nearfirst_check", folder) for reason in verdict["reasons"]]
    if reasons:
        raise InvalidModel(f"the engine refused {folder}: {'; '.join(reasons[:_MAX_SHOWN])}")


def require_digest(info: WeightInfo, digest: str, adapter: str | None) -> None:
    """Refuse a request that means other weights, or another adapter, than those that are loaded.

    Raises:
        StateConflict: it has both digests.
    """
    if adapter is None:
        loaded, what = info.digest, f"weights {info.version} with digest {info.digest} are loaded"
    else:
        entry = next((each for each in info.adapters if each.name == adapter), None)
        loaded = entry.digest if entry else ""
        what = f"adapter {adapter!r} has digest {loaded}" if entry else f"no adapter {adapter!r} is loaded"
    if loaded != digest:
        raise StateConflict(f"{what}, wanted {digest}")


def _canary(client: VllmClient) -> CanaryCheck:
    """A short greedy answer.

    Raises:
        Unavailable: the engine doesn't answer.
    """
    body = {"model": SERVED_MODEL, "prompt": _CANARY_PROMPT, "max_tokens": _CANARY_TOKENS, "temperature": 0}
    try:
        answer = client.complete(body | {"ignore_eos": True})
        text, num_tokens = answer["choices"][0]["text"], answer["usage"]["completion_tokens"]
        return CanaryCheck(prompt=_CANARY_PROMPT, completion=text, num_tokens=num_tokens)
    except (KeyError, IndexError, TypeError, ValueError, InvalidInput) as error:
        raise Unavailable(f"the canary prompt wasn't answered: {error!r}") from error


def _identity(request: WeightSwapRequest, checkpoint: Checkpoint) -> dict[str, object]:
    return {
        "version": request.version,
        "digest": request.digest,
        "path": str(checkpoint.folder.path),
        "loaded_at": _now(),
        "adapters": [],
    }


def _now() -> datetime:
    return datetime.now(UTC)
