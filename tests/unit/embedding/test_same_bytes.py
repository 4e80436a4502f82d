"""A text's vector is a pure function of the text: the same bytes among any other texts, on any number of threads."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nearfirst.contracts.arrangements import Representation
from nearfirst_embedding import causal_lm, sentence_transformer
from nearfirst_embedding.encoder import TransformerEncoder
from nearfirst_embedding.processor import has_bf16

NUM_TEXTS = 40


@pytest.fixture(scope="module")
def texts(words: list[str]) -> list[str]:
    """Of 1 to 40 words: every width of the tiny encoders, with and without padding."""
    draw = np.random.default_rng(0)
    return [" ".join(draw.choice(words, size=length)) for length in range(1, NUM_TEXTS + 1)]


@pytest.fixture(scope="module", params=["sentence-transformer", "causal-lm"])
def tiny(request: pytest.FixtureRequest, tiny_encoder: Path, tiny_causal_lm: Path) -> TransformerEncoder:
    if request.param == "causal-lm":
        return causal_lm.load(Representation(kind="causal-lm", model=str(tiny_causal_lm)))
    return sentence_transformer.load(Representation(model=str(tiny_encoder)))


@pytest.fixture(scope="module")
def tiny_vectors(tiny: TransformerEncoder, texts: list[str]) -> np.ndarray:
    return tiny.encode_texts(texts).vectors


@pytest.fixture
def torch_threads() -> Iterator[None]:
    """Gives the number of threads back."""
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.integers(0, NUM_TEXTS - 1), min_size=1, max_size=60))
def test_any_choice_and_order_of_texts_gives_the_same_bytes(
    tiny: TransformerEncoder, texts: list[str], tiny_vectors: np.ndarray, rows: list[int]
) -> None:
    chosen = tiny.encode_texts([texts[row] for row in rows]).vectors
    assert chosen.tobytes() == tiny_vectors[rows].tobytes()


@pytest.mark.parametrize(
    "precision",
    ["exact", pytest.param("fast", marks=pytest.mark.skipif(not has_bf16(), reason="the processor has no bf16"))],
)
@pytest.mark.usefixtures("torch_threads")
def test_minilm_gives_the_same_bytes_alone_shuffled_and_on_any_number_of_threads(
    packaged_model: str, p3_texts: list[str], precision: str
) -> None:
    import torch

    encoder = sentence_transformer.load(Representation(model=packaged_model, precision=precision))
    by_length = sorted(p3_texts, key=len)
    texts = [*by_length[:100:9], *by_length[-2:]]  # the longest are cut at the limit
    torch.set_num_threads(1)
    whole = encoder.encode_texts(texts).vectors
    shuffled = np.random.default_rng(2).permutation(len(texts))
    for num_threads in (2, 4):
        torch.set_num_threads(num_threads)
        again = encoder.encode_texts([texts[row] for row in shuffled]).vectors
        assert again.tobytes() == whole[shuffled].tobytes()
    for row in (0, len(texts) // 2, len(texts) - 1):
        assert encoder.encode_texts([texts[row]]).vectors.tobytes() == whole[row : row + 1].tobytes()
