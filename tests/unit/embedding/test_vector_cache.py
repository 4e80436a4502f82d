"""The cache of vectors: whole or not at all, whatever happens to its file."""

import logging
import multiprocessing
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from nearfirst_embedding.vector_cache import CachedVector, VectorCache, text_key

NUM_ROWS = 50


def entry(row: int) -> CachedVector:
    vector = np.random.default_rng(row).normal(size=8).astype(np.float32)
    return CachedVector(vector, row + 3, row % 2 == 0)


def entries(rows: range) -> dict[bytes, CachedVector]:
    return {text_key("encoder", f"text {row}"): entry(row) for row in rows}


def assert_equal(found: dict[bytes, CachedVector], expected: dict[bytes, CachedVector]) -> None:
    assert found.keys() == expected.keys()
    for key, stored in expected.items():
        assert found[key].vector.tobytes() == stored.vector.tobytes()
        assert (found[key].num_tokens, found[key].truncated) == (stored.num_tokens, stored.truncated)


@pytest.fixture
def cache(tmp_path: Path) -> VectorCache:
    return VectorCache(tmp_path / "cache")


def test_what_was_stored_is_found_bit_for_bit_and_nothing_else(cache: VectorCache) -> None:
    stored = entries(range(NUM_ROWS))
    assert cache.lookup(list(stored)) == {}
    cache.store(stored)
    asked = [*stored, *entries(range(NUM_ROWS, 2 * NUM_ROWS)), *stored]
    assert_equal(cache.lookup(asked), stored)
    assert cache.num_vectors() == NUM_ROWS
    assert cache.size_bytes() > NUM_ROWS * 8 * 4


def test_keys_tell_encoder_and_text_apart() -> None:
    keys = {text_key(*pair) for pair in [("a", "b c"), ("a b", "c"), ("ab", "c"), ("a", "bc"), ("", "abc")]}
    assert len(keys) == 5
    assert {len(key) for key in keys} == {32}


@pytest.mark.parametrize(
    "damage",
    [
        lambda payload: payload[:-1],
        lambda payload: b"",
        lambda payload: payload[:10] + bytes([payload[10] ^ 1]) + payload[11:],
        lambda payload: bytes([payload[0] ^ 4]) + payload[1:],
        lambda payload: "text",
    ],
)
def test_a_corrupt_entry_is_logged_and_not_returned(
    cache: VectorCache, caplog: pytest.LogCaptureFixture, damage: object
) -> None:
    assert callable(damage)
    stored = entries(range(3))
    cache.store(stored)
    spoilt, *whole = stored
    with closing(sqlite3.connect(cache.path)) as connection, connection:
        (payload,) = connection.execute("SELECT payload FROM vectors WHERE key = ?", (spoilt,)).fetchone()
        connection.execute("UPDATE vectors SET payload = ? WHERE key = ?", (damage(payload), spoilt))
    with caplog.at_level(logging.WARNING):
        assert_equal(cache.lookup(list(stored)), {key: stored[key] for key in whole})
    assert f"the entry {spoilt.hex()} is corrupt" in caplog.text
    cache.store({spoilt: stored[spoilt]})
    assert_equal(cache.lookup(list(stored)), stored)


def test_an_entry_under_another_key_is_not_taken_for_it(cache: VectorCache) -> None:
    stored = entries(range(2))
    cache.store(stored)
    first, second = stored
    with closing(sqlite3.connect(cache.path)) as connection, connection:
        (payload,) = connection.execute("SELECT payload FROM vectors WHERE key = ?", (first,)).fetchone()
        connection.execute("UPDATE vectors SET payload = ? WHERE key = ?", (payload, second))
    assert_equal(cache.lookup(list(stored)), {first: stored[first]})


def _overwrite_everything(path: Path) -> None:
    path.write_bytes(b"this was never a database" * 400)


def _overwrite_the_pages(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))


@pytest.mark.parametrize("damage", [_overwrite_everything, _overwrite_the_pages])
def test_a_corrupt_database_is_logged_and_replaced(
    cache: VectorCache, caplog: pytest.LogCaptureFixture, damage: object
) -> None:
    assert callable(damage)
    stored = entries(range(NUM_ROWS))
    cache.store(stored)
    damage(cache.path)
    with caplog.at_level(logging.WARNING):
        assert cache.lookup(list(stored)) == {}
    assert "is corrupt, starting a new one" in caplog.text
    cache.store(stored)
    assert_equal(cache.lookup(list(stored)), stored)


def test_a_place_that_can_not_be_written_is_done_without(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("not a folder")
    cache = VectorCache(tmp_path / "file")
    with caplog.at_level(logging.WARNING):
        cache.store(entries(range(2)))
        assert cache.lookup(list(entries(range(2)))) == {}
    assert "can't be used, going on without" in caplog.text
    assert (cache.num_vectors(), cache.size_bytes()) == (0, 0)


def _store_and_look_up(folder: Path, start: int) -> None:
    cache = VectorCache(folder)
    for row in range(start, start + 30):
        cache.store(entries(range(row, row + 5)))
        assert_equal(cache.lookup(list(entries(range(row, row + 5)))), entries(range(row, row + 5)))


def test_several_processes_at_once_lose_nothing(cache: VectorCache) -> None:
    folder = cache.path.parent
    forking = multiprocessing.get_context("fork")
    processes = [forking.Process(target=_store_and_look_up, args=(folder, start)) for start in (0, 10, 20, 300)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    expected = entries(range(54)) | entries(range(300, 334))
    assert_equal(cache.lookup(list(expected)), expected)
    assert cache.num_vectors() == len(expected)


def test_fifty_thousand_texts_are_looked_up_in_seconds(cache: VectorCache) -> None:
    vector = np.ones(384, dtype=np.float32)
    keys = [text_key("encoder", f"text {row}") for row in range(50_000)]
    for start in range(0, len(keys), 4096):
        cache.store({key: CachedVector(vector, 1, False) for key in keys[start : start + 4096]})
    start_s = time.process_time()
    assert len(cache.lookup(keys)) == 50_000
    assert time.process_time() - start_s < 2
