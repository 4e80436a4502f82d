"""Plug-ins, the cache between them and their callers, and what is refused on the way."""

import logging
import re
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

from nearfirst import encoders
from nearfirst.contracts.arrangements import Representation
from nearfirst.contracts.problems import InvalidEmbeddings, InvalidInput
from nearfirst.contracts.progress import Cancelled, ProgressCallback, ignore_progress
from nearfirst_embedding import representations
from nearfirst_embedding.representations import (
    EncodedTexts,
    embed_texts,
    encode_texts,
    encoder_key,
    load_representation,
)
from nearfirst_embedding.vector_cache import VectorCache, open_vector_cache

DOCS = Path(__file__).parents[3] / "docs" / "representations.md"


class CountingEncoder:
    """Two numbers of a text, and a record of what was asked."""

    def __init__(self, key: str = "counting 1") -> None:
        self.key = key
        self.dimensions = 2
        self.asked: list[str] = []
        self.spoil = 0.0

    def encode_texts(self, texts: Sequence[str], *, progress: ProgressCallback = ignore_progress) -> EncodedTexts:
        self.asked += texts
        angles = np.array([len(text) for text in texts], dtype=np.float32)
        vectors = np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
        vectors[[text == "bad" for text in texts]] = self.spoil
        for done in range(1, len(texts) + 1):
            progress(done, len(texts), "texts")
        lengths = angles.astype(np.int32)
        return EncodedTexts(vectors, lengths, lengths > 5)


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> CountingEncoder:
    """An encoder that is registered as the kind `counting`."""
    counting = CountingEncoder()
    plug_in = EntryPoint("counting", "counting_plug_in:load", encoders.ENCODER_GROUP)

    def entry_points(*, group: str, name: str | None = None) -> list[EntryPoint]:
        return [plug_in] if group == plug_in.group and name in (None, "counting") else []

    monkeypatch.setattr(encoders, "entry_points", entry_points)
    monkeypatch.setattr(EntryPoint, "load", lambda self: lambda representation: counting)
    return counting


@pytest.fixture
def cache(tmp_path: Path) -> VectorCache:
    return VectorCache(tmp_path)


COUNTING = Representation(kind="counting")


def test_an_installed_plug_in_is_found_by_its_kind(encoder: CountingEncoder) -> None:
    encoded = embed_texts(COUNTING, ["a", "four", "longer"])
    np.testing.assert_allclose(encoded.vectors[:, 0], np.cos([1, 4, 6]), rtol=1e-6)
    assert encoded.num_tokens.tolist() == [1, 4, 6]
    assert encoded.truncated.tolist() == [False, False, True]


def test_the_page_on_plug_ins_shows_one_that_works(tmp_path: Path) -> None:
    files = dict(re.findall(r"`([\w.-]+)`:\n\n```\w+\n(.*?)```", DOCS.read_text(), flags=re.DOTALL))
    assert {"letters.py", "pyproject.toml", "use.py"} <= files.keys()
    (tmp_path / "letters.py").write_text(files["letters.py"])
    name, reference = re.search(r'"nearfirst.encoders"\]\n(\S+) = "(\S+)"', files["pyproject.toml"]).groups()
    installed = tmp_path / "letters-1.0.dist-info"  # what pip would make of pyproject.toml
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: letters\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text(f"[nearfirst.encoders]\n{name} = {reference}\n")
    (tmp_path / "use.py").write_text(files["use.py"])
    done = subprocess.run(
        [sys.executable, "-W", "error", "use.py"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "(2, 26)\n"


def test_a_kind_that_is_not_installed_names_those_that_are() -> None:
    with pytest.raises(
        InvalidInput, match=r"kind 'no-such' is installed; wanted one of: causal-lm, sentence-transformer"
    ):
        load_representation(Representation(kind="no-such"))


def test_a_plug_in_that_can_not_be_imported_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = EntryPoint("broken", "no_such_module:load", encoders.ENCODER_GROUP)
    monkeypatch.setattr(encoders, "entry_points", lambda **_: [broken])
    with pytest.raises(InvalidInput, match=r"'broken' \(no_such_module:load\) can't be loaded"):
        load_representation(Representation(kind="broken"))


def test_precomputed_vectors_encode_no_texts() -> None:
    with pytest.raises(InvalidInput, match="precomputed has vectors in files"):
        load_representation(Representation(kind="precomputed", vectors={"d": "X.npy"}))


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "texts is empty"),
        (["a", ""], "row 1: the text is ''"),
        (["a", "b", " \n\t"], "row 2"),
        (["a", "half \ud83d of it"], "row 1: character 5 of the text"),
    ],
)
def test_texts_that_say_nothing_or_are_not_unicode_are_refused_with_their_row(
    encoder: CountingEncoder, texts: list[str], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        embed_texts(COUNTING, texts)
    assert not encoder.asked


@pytest.mark.parametrize("broken", [np.nan, np.inf, 0.0])
def test_a_vector_that_is_not_a_direction_is_refused_with_its_row_and_not_kept(
    encoder: CountingEncoder, cache: VectorCache, broken: float
) -> None:
    encoder.spoil = broken
    embed_texts(COUNTING, ["known"], cache=cache)
    with pytest.raises(InvalidEmbeddings, match="row 2: the encoder gave a vector"):
        embed_texts(COUNTING, ["known", "good", "bad"], cache=cache)
    assert cache.num_vectors() == 1


def test_known_texts_are_not_computed_again(encoder: CountingEncoder, cache: VectorCache) -> None:
    first = embed_texts(COUNTING, ["a", "bb", "longer", "bb"], cache=cache)
    assert encoder.asked == ["a", "bb", "longer"]
    encoder.asked.clear()
    second = embed_texts(COUNTING, ["new text", "longer", "a"], cache=cache)
    assert encoder.asked == ["new text"]
    assert second.vectors[1:].tobytes() == first.vectors[[2, 0]].tobytes()
    assert second.num_tokens.tolist() == [8, 6, 1]
    assert second.truncated.tolist() == [True, True, False]
    encoder.key = "counting 2"
    embed_texts(COUNTING, ["a"], cache=cache)
    assert encoder.asked == ["new text", "a"]


def test_a_corrupt_entry_is_computed_again(
    encoder: CountingEncoder, cache: VectorCache, caplog: pytest.LogCaptureFixture
) -> None:
    first = embed_texts(COUNTING, ["a", "bb"], cache=cache)
    with closing(sqlite3.connect(cache.path)) as connection, connection:
        connection.execute("UPDATE vectors SET payload = substr(payload, 1, 20) WHERE rowid = 1")
    encoder.asked.clear()
    with caplog.at_level(logging.WARNING):
        assert embed_texts(COUNTING, ["a", "bb"], cache=cache).vectors.tobytes() == first.vectors.tobytes()
    assert encoder.asked == ["a"]
    assert "is corrupt and will be computed anew" in caplog.text


def test_what_was_computed_before_a_stop_is_kept(
    encoder: CountingEncoder, cache: VectorCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(representations, "TEXTS_AT_ONCE", 4)
    texts = [f"text {row}" for row in range(10)]

    def cancel(done: int, total: int | None, unit: str) -> None:
        if done == 6:
            raise Cancelled

    with pytest.raises(Cancelled):
        embed_texts(COUNTING, texts, cache=cache, progress=cancel)
    assert cache.num_vectors() == 4
    encoder.asked.clear()
    seen: list[tuple[int, int | None, str]] = []
    embed_texts(COUNTING, texts, cache=cache, progress=lambda *state: seen.append(state))
    assert encoder.asked == texts[4:]
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)
    assert (seen[0], seen[-1]) == ((0, 10, "texts"), (10, 10, "texts"))


def test_a_second_run_imports_no_torch(tiny_encoder: Path, cache_folder: Path) -> None:
    program = (
        "import sys\n"
        "from nearfirst.contracts.arrangements import Representation\n"
        "from nearfirst_embedding.representations import encode_texts\n"
        f"encoded = encode_texts(Representation(model={str(tiny_encoder)!r}), ['a cat', 'the dog runs'])\n"
        "print('torch' in sys.modules, encoded.vectors.tobytes().hex())\n"
    )

    def run() -> list[str]:
        environment = {"NEARFIRST_EMBEDDING_CACHE_DIR": str(cache_folder)}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.split()

    first, second = run(), run()
    assert (first[0], second[0]) == ("True", "False")
    assert first[1] == second[1]


def test_the_settings_say_where_the_cache_is_and_whether(
    tiny_encoder: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode_texts(Representation(model=str(tiny_encoder)), ["a cat"])
    assert [path.name for path in cache_folder.iterdir()] == ["vectors.sqlite"]
    monkeypatch.setenv("NEARFIRST_EMBEDDING_CACHE", "false")
    from nearfirst_embedding.settings import get_embedding_settings

    get_embedding_settings.cache_clear()
    assert open_vector_cache() is None


def test_the_key_names_everything_that_decides_a_vector() -> None:
    base = Representation(model="some/model")
    variants = [
        base,
        Representation(model="some/other"),
        Representation(model="some/model", revision="abc"),
        Representation(model="some/model", text="all_turns"),
        Representation(model="some/model", max_length=64),
        Representation(model="some/model", precision="fast"),
        Representation(kind="causal-lm", model="some/model", pooling="mean"),
        Representation(kind="plug-in", model="some/model", options={"layer": 3}),
        Representation(kind="plug-in", model="some/model", options={"layer": "3"}),
    ]
    keys = {encoder_key(variant, "sha256:00") for variant in variants} | {encoder_key(base, "sha256:01")}
    assert len(keys) == len(variants) + 1
    assert encoder_key(base, "sha256:00") == (
        "sentence-transformer model=some/model files=sha256:00 text=first_turn max_length=own precision=exact"
    )
