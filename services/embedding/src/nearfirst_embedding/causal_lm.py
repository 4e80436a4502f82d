"""Representation kind `causal-lm`: pooled last hidden states of any causal language model.

With pooling weighted_mean (the default) this is RDS+: token t of T has the weight t / (1 + ... + T), so that what a
causal model has read most of counts most. With mean every token counts alike.

References:
    Ivison et al., "Large-Scale Data Selection for Instruction Tuning" (arXiv 2503.01807). Their code
    (hamishivi/automated-instruction-selection, `compute_influence_cosinesim.py` at 13bcaf37) takes the hidden states
    after the last norm, in bf16, one sequence of at most 2,048 tokens at a time, and puts a chat template around each
    example. Here the text is what the representation's text rule says, with the tokenizer's own special tokens.
    Muennighoff, "SGPT" (arXiv 2202.08904): the weights.

Legend: B rows in a batch, T tokens wide, D dimensions.
"""

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from nearfirst.contracts.arrangements import Pooling, Precision, Representation
from nearfirst.contracts.problems import InvalidModel
from nearfirst_embedding.encoder import LoadedModel, TransformerEncoder
from nearfirst_embedding.models import EncoderFiles, resolve_causal_lm
from nearfirst_embedding.processor import check_precision, inference_device
from nearfirst_embedding.representations import encoder_key
from nearfirst_embedding.sentence_transformer import position_limit, without_weight_bar
from nearfirst_embedding.tokens import TextTokenizer

if TYPE_CHECKING:
    from torch import Tensor

LONGEST_BY_DEFAULT = 2048
"""Tokens, where neither the representation nor the model sets a smaller limit; RDS+'s own."""


def load(representation: Representation) -> TransformerEncoder:
    """The encoder of a representation; its files are found and checked now, the model is loaded with the first text.

    Raises:
        InvalidModel: the model can't be found, or is incomplete or not to be trusted (models.py).
        InvalidInput: precision fast on a processor without bf16.
    """
    check_precision(representation.precision)
    files = resolve_causal_lm(representation.model, representation.revision)
    pooling = representation.pooling or Pooling.WEIGHTED_MEAN
    explicit = representation.model_copy(update={"pooling": pooling})
    return TransformerEncoder(
        encoder_key(explicit, files.digest),
        lambda: _load(files, representation.model, representation.max_length, representation.precision, pooling),
    )


@lru_cache(maxsize=1)
def _load(
    files: EncoderFiles, name: str, max_length: int | None, precision: Precision, pooling: Pooling
) -> LoadedModel:
    """Load a model, once for as long as its files stay the same."""
    network = _load_network(files, name, precision)
    tokenizer = _load_tokenizer(files, name)
    limit = position_limit(network)
    if max_length is not None and limit is not None and max_length > limit:
        raise InvalidModel(f"max_length {max_length} is above the {limit} positions of model {name!r}")
    own = min(LONGEST_BY_DEFAULT, limit or LONGEST_BY_DEFAULT, tokenizer.model_max_length)
    return LoadedModel(
        TextTokenizer(tokenizer, int(max_length or own)),
        _Forward(network, pooling),
        int(network.config.get_text_config().hidden_size),
        inference_device(),
    )


class _Forward:
    """Hidden states after the last norm, pooled in fp32."""

    def __init__(self, network: Any, pooling: Pooling) -> None:
        self._network = network
        self._pooling = pooling

    def __call__(self, ids_BT: "Tensor", mask_BT: "Tensor") -> "Tensor":
        output = self._network(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False)
        return pool(output.last_hidden_state.float(), mask_BT, self._pooling)


def pool(hidden_BTD: "Tensor", mask_BT: "Tensor", pooling: Pooling) -> "Tensor":
    """One vector of each row's hidden states, (B, D).

    Args:
        hidden_BTD: floating point; padding is on the right.
        mask_BT: 1 where there is a token, at least once in a row.
        pooling: how tokens are weighted; the weights of a row add up to 1.
    """
    weights_BT = mask_BT.to(hidden_BTD.dtype)
    if pooling is Pooling.WEIGHTED_MEAN:
        weights_BT = weights_BT * weights_BT.cumsum(dim=1)
    weights_BT = weights_BT / weights_BT.sum(dim=1, keepdim=True)
    return (hidden_BTD * weights_BT[:, :, None]).sum(dim=1)


def _load_network(files: EncoderFiles, name: str, precision: Precision) -> Any:
    """The decoder without its language-modelling head, which takes no part."""
    import torch
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModel
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    dtype = torch.bfloat16 if precision is Precision.FAST else torch.float32
    try:
        config = AutoConfig.from_pretrained(files.folder, trust_remote_code=False, local_files_only=True)
        if config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
            raise InvalidModel(f"model {name!r} is a {config.model_type}, not a causal language model")
        with without_weight_bar():
            network, found = AutoModel.from_pretrained(
                files.folder,
                config=config,
                dtype=dtype,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, ImportError, SafetensorError) as error:
        raise InvalidModel(f"model {name!r} can't be loaded: {error}") from error
    missing = sorted(found["missing_keys"])
    if missing:
        raise InvalidModel(f"model {name!r} lacks {len(missing)} weights, such as {missing[0]}; they would be random")
    return network.to(inference_device()).eval()


def _load_tokenizer(files: EncoderFiles, name: str) -> Any:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(files.folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, ImportError) as error:
        raise InvalidModel(f"model {name!r}: its tokenizer can't be loaded: {error}") from error
    if not getattr(tokenizer, "is_fast", False):
        raise InvalidModel(f"model {name!r} has no tokenizer.json; wanted one")
    return tokenizer
