"""Representation kind `sentence-transformer`: any module stack of sentence-transformers that begins with a transformer.

The same vectors as `SentenceTransformer.encode(normalize_embeddings=True)` to 1e-5 in precision exact. In fast, the
transformer computes in bf16, what follows it (pooling, projections, the norm) in fp32.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from nearfirst.contracts.arrangements import Precision, Representation
from nearfirst.contracts.problems import InvalidModel
from nearfirst_embedding.encoder import LoadedModel, TransformerEncoder
from nearfirst_embedding.models import EncoderFiles, resolve_encoder
from nearfirst_embedding.processor import check_precision, inference_device
from nearfirst_embedding.representations import encoder_key
from nearfirst_embedding.tokens import TextTokenizer

if TYPE_CHECKING:
    from torch import Tensor


def load(representation: Representation) -> TransformerEncoder:
    """The encoder of a representation; its files are found and checked now, the model is loaded with the first text.

    Raises:
        InvalidModel: the model can't be found, or is incomplete or not to be trusted (models.py).
        InvalidInput: precision fast on a processor without bf16.
    """
    check_precision(representation.precision)
    files = resolve_encoder(representation.model, representation.revision)
    return TransformerEncoder(
        encoder_key(representation, files.digest),
        lambda: _load(files, representation.model, representation.max_length, representation.precision),
    )


@lru_cache(maxsize=2)
def _load(files: EncoderFiles, name: str, max_length: int | None, precision: Precision) -> LoadedModel:
    """Load a model, once for as long as its files stay the same.

    Raises:
        InvalidModel: it has no fast tokenizer, wants token types or a chat template, or has fewer positions than
            `max_length`.
    """
    import torch

    model = _load_sentence_transformer(files, name)
    tokenizer = getattr(model, "tokenizer", None)
    if not getattr(tokenizer, "is_fast", False):
        raise InvalidModel(f"model {name!r} is not a transformer with a tokenizer.json; wanted one")
    _check_inputs(model, name)
    limit = position_limit(model[0].model)
    if max_length is not None and limit is not None and max_length > limit:
        raise InvalidModel(f"max_length {max_length} is above the {limit} positions of model {name!r}")
    wanted = max_length or model.max_seq_length
    if precision is Precision.FAST:
        model[0].to(torch.bfloat16)
    return LoadedModel(
        TextTokenizer(tokenizer, int(min(wanted, limit or wanted)), _default_prompt(model)),
        _Forward(model),
        int(model.get_embedding_dimension()),
        inference_device(),
    )


class _Forward:
    """The module stack as a function of token ids."""

    def __init__(self, model: Any) -> None:
        prompt = _default_prompt(model)
        self._model = model
        self._has_token_types = "token_type_ids" in model.tokenizer.model_input_names
        # Poolings that leave the prompt out want to know how long it is; the library counts it while tokenizing.
        self._prompt_length = model.preprocess(["x"], prompt=prompt).get("prompt_length") if prompt else None

    def __call__(self, ids_BT: "Tensor", mask_BT: "Tensor") -> "Tensor":
        import torch

        features: dict[str, Any] = {"input_ids": ids_BT, "attention_mask": mask_BT, "modality": "text"}
        if self._has_token_types:
            features["token_type_ids"] = torch.zeros_like(ids_BT)
        if self._prompt_length is not None:
            features["prompt_length"] = self._prompt_length
        transformer, *others = self._model
        features = transformer(features)
        features = {name: _in_fp32(value) for name, value in features.items()}
        for module in others:
            features = module(features)
        vectors_BD: Tensor = features["sentence_embedding"]
        return vectors_BD[:, : self._model.truncate_dim]


def _in_fp32(value: Any) -> Any:
    import torch

    if isinstance(value, list | tuple):
        return type(value)(_in_fp32(part) for part in value)
    is_floating = isinstance(value, torch.Tensor) and value.is_floating_point()
    return value.float() if is_floating else value


def _check_inputs(model: Any, name: str) -> None:
    """Refuse models that want more than token ids and a mask."""
    if "text" not in model[0].modality_config or "message" in model[0].modality_config:
        raise InvalidModel(f"model {name!r} wants chat messages or no text at all; wanted one that takes plain text")
    (encoding,) = model.tokenizer(["a text"]).encodings
    if any(encoding.type_ids):
        raise InvalidModel(f"model {name!r} gives its tokens types; wanted one whose token types are all 0")


def _default_prompt(model: Any) -> str:
    """What the model's configuration puts before every text; mostly nothing."""
    name = model.default_prompt_name
    return str(model.prompts[name]) if name else ""


def _load_sentence_transformer(files: EncoderFiles, name: str) -> Any:
    from safetensors import SafetensorError
    from sentence_transformers import SentenceTransformer

    try:
        with without_weight_bar():
            return SentenceTransformer(
                str(files.folder),
                device=inference_device(),
                trust_remote_code=False,
                local_files_only=True,
                model_kwargs={"dtype": "float32", "use_safetensors": True},
            ).eval()
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, ImportError, SafetensorError) as error:
        raise InvalidModel(f"model {name!r} can't be loaded: {error}") from error


@contextmanager
def without_weight_bar() -> Iterator[None]:
    """Keep transformers' bar of loaded tensors, which is there and gone, out of logs and other bars."""
    from transformers.utils import logging

    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()


def position_limit(network: Any) -> int | None:
    """Most tokens a transformers model has positions for; None when its configuration sets no bound.

    RoBERTa and its kin number their positions from padding_idx + 1, so a table of 514 holds 512 tokens.
    """
    from torch.nn import Embedding

    for module in network.modules():
        table = getattr(module, "position_embeddings", None)
        if isinstance(table, Embedding):
            return int(table.num_embeddings) - (0 if table.padding_idx is None else table.padding_idx + 1)
    limit = getattr(network.config, "max_position_embeddings", None)
    return int(limit) if limit is not None and limit > 0 else None
