"""The engine for machines without vLLM: transformers, in this process, with vLLM's answers to greedy prompts."""

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
import transformers

from nearfirst.contracts.generation import (
    AdapterInfo,
    AdapterLoad,
    CanaryCheck,
    GenerationSettings,
    WeightInfo,
    WeightSwapRequest,
    WeightSwapResult,
)
from nearfirst.contracts.problems import DoesNotFit, InvalidInput, InvalidModel, NotReady, StateConflict
from nearfirst_generation.checkpoint_tokenizer import CheckpointTokenizer, TokenizerCache
from nearfirst_generation.decoding import continue_prompts
from nearfirst_generation.engine import Completion
from nearfirst_generation.resident_model import ResidentModel
from nearfirst_generation.verification import (
    Checkpoint,
    layout_differences,
    require_fit,
    verify_adapter,
    verify_checkpoint,
)

_CANARY_PROMPT = "User: Say a word.\nAssistant: "
_CANARY = GenerationSettings(max_new_tokens=8)
_MAX_RANK = 1024
_NO_VERSION = "none"
"""`WeightSwapResult.previous` of the first load."""


@dataclass(slots=True)
class _Loaded:
    """The weights that are served."""

    checkpoint: Checkpoint
    info: WeightInfo
    model: ResidentModel
    tokenizer: CheckpointTokenizer
    stop_ids: frozenset[int]


class TransformersEngine:
    """An `Engine` (engine.py) on one device. One call computes at a time, others wait.

    A swap to the same architecture copies tensors over the old ones; adapters go with the weights that they were loaded
    beside. Another architecture is built before the old one is freed.
    """

    def __init__(
        self,
        roots: Sequence[Path],
        *,
        device: str | None = None,
        dtype: torch.dtype | None = None,
        max_adapters: int = 8,
    ) -> None:
        """Nothing is loaded yet.

        Args:
            roots: folders that checkpoints may be in.
            device: None: the first GPU, else the processor.
            dtype: of the weights; None: bf16 on a GPU, fp32 on a processor.
            max_adapters: of more, the one that was used longest ago goes.
        """
        self._roots = list(roots)
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._dtype = dtype or (torch.bfloat16 if self._device.type == "cuda" else torch.float32)
        self._max_adapters = max_adapters
        self._lock = threading.RLock()
        self._tokenizers = TokenizerCache()
        self._loaded: _Loaded | None = None
        self._adapters: OrderedDict[str, tuple[str, AdapterInfo]] = OrderedDict()
        """By name: the model's key of it, and what it is; the last used last."""
        self._num_adapter_loads = 0
        self._started_at = datetime.now(UTC)

    @property
    def max_length(self) -> int:
        """As `Engine.max_length`."""
        return self._require_loaded().model.max_length

    def info(self) -> WeightInfo:
        """As `Engine.info`."""
        adapters = [info for _, info in self._adapters.values()]
        return self._require_loaded().info.model_copy(update={"adapters": adapters})

    def load(self, request: WeightSwapRequest) -> WeightSwapResult:
        """As `Engine.load`."""
        checkpoint = verify_checkpoint(request.path, request.digest, self._roots)
        with self._lock:
            started_s = time.perf_counter()
            tokenizer = self._tokenizers.load(checkpoint.folder.path)
            before = self._loaded
            model = self._with_weights(checkpoint, allow_restart=request.allow_restart)
            self._adapters.clear()
            self._loaded = _Loaded(
                checkpoint=checkpoint,
                info=self._info(request, before),
                model=model,
                tokenizer=tokenizer,
                stop_ids=_stop_ids(checkpoint, tokenizer),
            )
            return WeightSwapResult(
                previous=before.info.version if before else _NO_VERSION,
                loaded=self.info(),
                canary=self._canary(self._loaded),
                paused_s=time.perf_counter() - started_s,
            )

    def load_adapter(self, request: AdapterLoad) -> AdapterInfo:
        """As `Engine.load_adapter`."""
        with self._lock:
            loaded = self._require_loaded()
            adapter = verify_adapter(
                request.path, request.digest, self._roots, loaded.checkpoint.layout, max_rank=_MAX_RANK
            )
            key = f"adapter{self._num_adapter_loads}"
            self._num_adapter_loads += 1
            loaded.model.add_adapter(key, adapter.folder.path)
            if request.name in self._adapters:
                self._forget_adapter(request.name)
            info = AdapterInfo(
                name=request.name, digest=request.digest, path=str(adapter.folder.path), loaded_at=datetime.now(UTC)
            )
            self._adapters[request.name] = key, info
            if len(self._adapters) > self._max_adapters:
                self._forget_adapter(next(iter(self._adapters)))
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
        """As `Engine.complete`."""
        with self._lock:
            loaded = self._require_loaded()
            key = self._key_of(adapter, model_digest, loaded)
            self._refuse_prompts(prompts, loaded.model.vocabulary_size)
            if not prompts:
                return []
            try:
                with loaded.model.using(key) as model:
                    return continue_prompts(
                        model,
                        prompts,
                        settings,
                        indices=indices,
                        stop_ids=loaded.stop_ids,
                        max_length=self.max_length,
                    )
            except torch.OutOfMemoryError as error:
                raise DoesNotFit(
                    f"batch_size: {len(prompts)} prompts of up to {max(map(len, prompts))} tokens and their answers "
                    f"don't fit on the GPU; wanted fewer: {error}"
                ) from error

    def close(self) -> None:
        """As `Engine.close`."""
        with self._lock:
            self._loaded = None
            self._adapters.clear()
            if self._device.type == "cuda":
                torch.cuda.empty_cache()

    def _with_weights(self, checkpoint: Checkpoint, *, allow_restart: bool) -> ResidentModel:
        """A model with the checkpoint's weights: the resident one where they fit, else a new one."""
        loaded = self._loaded
        if loaded is None:
            return ResidentModel(checkpoint, self._device, self._dtype)
        if not allow_restart:
            require_fit(loaded.checkpoint.layout, checkpoint)
        fits = next(layout_differences(loaded.checkpoint.layout, checkpoint.layout), None) is None
        if not (fits and loaded.model.can_take(checkpoint)):
            return ResidentModel(checkpoint, self._device, self._dtype)
        try:
            loaded.model.take(checkpoint)
        except InvalidModel:
            raise
        except BaseException:
            self.close()  # the weights are mixed
            raise
        return loaded.model

    def _info(self, request: WeightSwapRequest, before: _Loaded | None) -> WeightInfo:
        return WeightInfo(
            version=request.version,
            digest=request.digest,
            path=request.path,
            loaded_at=datetime.now(UTC),
            num_swaps=before.info.num_swaps + 1 if before else 0,
            engine="transformers",
            engine_version=transformers.__version__,
            engine_started_at=self._started_at,
            device=self._device.type,
            precision=str(self._dtype).removeprefix("torch."),
        )

    def _canary(self, loaded: _Loaded) -> CanaryCheck:
        prompt = loaded.tokenizer.tokenizer.encode(_CANARY_PROMPT, add_special_tokens=True)[: self.max_length - 1]
        (answer,) = self.complete([prompt], _CANARY, model_digest=loaded.info.digest, indices=[0])
        text = loaded.tokenizer.tokenizer.decode(answer.token_ids, skip_special_tokens=True)
        return CanaryCheck(prompt=_CANARY_PROMPT, completion=text, num_tokens=len(answer.token_ids))

    def _require_loaded(self) -> _Loaded:
        if self._loaded is None:
            raise NotReady("no weights are loaded yet")
        return self._loaded

    def _key_of(self, adapter: str | None, digest: str, loaded: _Loaded) -> str | None:
        """The model's key of the weights that are meant; None: no adapter."""
        if adapter is None:
            if loaded.info.digest != digest:
                raise StateConflict(f"weights {digest} are asked for, {loaded.info.digest} are loaded")
            return None
        key, info = self._adapters.get(adapter, (None, None))
        if info is None or info.digest != digest:
            found = f"has digest {info.digest}" if info else "isn't loaded"
            raise StateConflict(f"adapter {adapter!r} of digest {digest} is asked for; it {found}")
        self._adapters.move_to_end(adapter)
        return key

    def _refuse_prompts(self, prompts: Sequence[Sequence[int]], vocabulary_size: int) -> None:
        for number, prompt in enumerate(prompts):
            if not 0 < len(prompt) < self.max_length:
                raise InvalidInput(
                    f"prompts[{number}] has {len(prompt)} tokens, wanted 1 to {self.max_length - 1}: the context has "
                    f"room for {self.max_length}"
                )
            unknown = next((token for token in prompt if not 0 <= token < vocabulary_size), None)
            if unknown is not None:
                raise InvalidInput(f"prompts[{number}] has token {unknown}, wanted 0 to {vocabulary_size - 1}")

    def _forget_adapter(self, name: str) -> None:
        key, _ = self._adapters.pop(name)
        self._require_loaded().model.remove_adapter(key)


def _stop_ids(checkpoint: Checkpoint, tokenizer: CheckpointTokenizer) -> frozenset[int]:
    """Tokens that end an answer, as vLLM takes them: the configurations' and the tokenizer's own."""
    own = tokenizer.tokenizer.eos_token_id
    return frozenset(checkpoint.layout.eos_token_ids) | (frozenset() if own is None else {own})
