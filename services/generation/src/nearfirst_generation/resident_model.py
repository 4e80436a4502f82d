"""A causal language model of transformers that stays in memory while checkpoints and LoRA adapters pass through it.

safetensors only: no pickle is read and no code of a checkpoint is run. Whoever calls has verified the folders
(verification.py).
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoModelForCausalLM, GenerationConfig
from transformers.utils import logging as transformers_logging

from nearfirst.contracts.problems import InvalidModel
from nearfirst_generation.tensor_files import Shapes
from nearfirst_generation.verification import ADAPTER_WEIGHTS, Checkpoint

_LOAD_ERRORS = (OSError, ValueError, TypeError, KeyError, RuntimeError, ImportError, SafetensorError)

_NO_LIMIT = 2**31


class ResidentModel:
    """One model and its adapters, for one thread at a time."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> None:
        """Build the checkpoint's architecture and load it.

        Raises:
            InvalidModel: transformers doesn't know it, or its weights don't fill the model.
        """
        self._model = _build(checkpoint.folder.path, device, dtype)
        self._parameters = dict(self._model.named_parameters())
        self._shapes: Shapes = {name: tuple(parameter.shape) for name, parameter in self._parameters.items()}
        self._adapted: Any = None
        """A PeftModel around the model while it has adapters."""

    @property
    def max_length(self) -> int:
        """Tokens that it has positions for; a configuration that doesn't say sets no limit."""
        room = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        return room if isinstance(room, int) else _NO_LIMIT

    @property
    def vocabulary_size(self) -> int:
        """Token ids that it has embeddings for: 0 and up."""
        return int(self._model.get_input_embeddings().num_embeddings)

    def can_take(self, checkpoint: Checkpoint) -> bool:
        """Whether the checkpoint's tensors are the model's parameters, one by one."""
        return checkpoint.layout.shapes == self._shapes

    def take(self, checkpoint: Checkpoint) -> None:
        """Copy a checkpoint's tensors over the weights; adapters, which went with the old ones, are gone.

        All files are opened before anything is touched. Should one fail to be read after that, the weights are mixed.

        Raises:
            InvalidModel: a file can't be opened; nothing was touched.
        """
        with ExitStack() as files:
            opened = _open_all(checkpoint.folder.path, files)
            self._drop_adapters()
            with torch.no_grad():
                for file in opened:
                    for name in file.keys():  # noqa: SIM118  (it is no mapping)
                        if name in self._parameters:
                            self._parameters[name].copy_(file.get_tensor(name))

    def add_adapter(self, key: str, folder: Path) -> None:
        """Put a LoRA adapter beside the weights.

        Args:
            key: a new name without dots.
            folder: a verified adapter.

        Raises:
            InvalidModel: PEFT isn't installed, or can't load it.
        """
        try:
            from peft import PeftConfig, PeftModel
        except ImportError as error:
            raise InvalidModel("a LoRA adapter needs PEFT: pip install 'nearfirst-generation[transformers]'") from error
        if not (folder / ADAPTER_WEIGHTS).is_file():  # else PEFT would look for a pickle
            raise InvalidModel(f"adapter {folder} has no {ADAPTER_WEIGHTS}")
        try:
            if self._adapted is None:
                config = PeftConfig.from_pretrained(str(folder), inference_mode=True)
                self._adapted = PeftModel(self._model, config, adapter_name=key)
            loaded = self._adapted.load_adapter(str(folder), adapter_name=key)
            _refuse_partial(folder, [*loaded.missing_keys, *loaded.unexpected_keys])
        except (*_LOAD_ERRORS, InvalidModel) as error:
            self.remove_adapter(key)
            raise InvalidModel(f"adapter {folder} can't be loaded: {error}") from error
        self._model.eval()

    def remove_adapter(self, key: str) -> None:
        """Forget an adapter that was added, or half added."""
        if self._adapted is None:
            return
        others = [other for other in self._adapted.peft_config if other != key]
        if not others:
            self._drop_adapters()
        elif key in self._adapted.peft_config:
            self._adapted.set_adapter(others[0])  # PEFT warns when the active one is deleted
            self._adapted.delete_adapter(key)

    @contextmanager
    def using(self, key: str | None) -> Iterator[Any]:
        """The model with one adapter, or with none."""
        if self._adapted is None:
            yield self._model
        elif key is None:
            with self._adapted.disable_adapter():
                yield self._model
        else:
            self._adapted.set_adapter(key)
            yield self._model

    def _drop_adapters(self) -> None:
        if self._adapted is not None:
            self._adapted.unload()
            self._adapted = None


def _build(folder: Path, device: torch.device, dtype: torch.dtype) -> Any:
    transformers_logging.disable_progress_bar()
    try:
        model, loaded = AutoModelForCausalLM.from_pretrained(
            str(folder),
            dtype=dtype,
            attn_implementation="sdpa",
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except _LOAD_ERRORS as error:
        raise InvalidModel(f"checkpoint {folder} can't be loaded: {error}") from error
    absent = sorted(loaded["missing_keys"])
    if absent:
        raise InvalidModel(
            f"checkpoint {folder} lacks {len(absent)} tensors, {absent[0]} among them; they would start at random"
        )
    model.generation_config = GenerationConfig()  # what is asked for decides, no default of the checkpoint
    return model.to(device).eval()


def _refuse_partial(folder: Path, keys: list[str]) -> None:
    wrong = [key for key in keys if "lora_" in key]
    if wrong:
        raise InvalidModel(f"its tensors and its target_modules name different layers: {wrong[0]}")


def _open_all(folder: Path, files: ExitStack) -> list[Any]:
    """Every weights file, open: one that is deleted from now on is read all the same."""
    try:
        return [files.enter_context(safe_open(path, framework="pt")) for path in sorted(folder.glob("*.safetensors"))]
    except (OSError, SafetensorError) as error:
        raise InvalidModel(f"checkpoint {folder} can't be read: {error}") from error
