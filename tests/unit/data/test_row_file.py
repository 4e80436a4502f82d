"""Rows of a canonical file by number, against reading it whole."""

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nearfirst.data import row_file
from nearfirst.data.dataset import read_canonical, write_canonical
from nearfirst.data.example import Example, Message
from nearfirst.data.row_file import RowFile

TEXTS = ["plain", "line\nbreaks\r\n and \u2028 others", "", "ünï → 漢字 🙂", "x" * 300]


@pytest.fixture(params=[7, 2**22], ids=["chunks of 7 bytes", "one chunk"])
def file(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(row_file, "_CHUNK_BYTES", request.param)
    examples = [
        Example(
            id=f"row-{number}",
            task=f"task {number % 3}",
            turns=(Message("user", f"ask {number}"), Message("assistant", text)),
            references=(text,),
            meta={"note": text},
        )
        for number, text in enumerate(TEXTS * 3)
    ]
    content = io.BytesIO()
    write_canonical(examples, content)
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content.getvalue())
    return path


def test_any_range_of_rows_is_what_reading_the_whole_file_gives(file: Path) -> None:
    whole = read_canonical(file)
    rows = RowFile(file)
    assert len(rows) == len(whole) == 15
    assert list(rows) == whole
    for start, stop in [(0, 15), (0, 1), (4, 9), (14, 15), (15, 15), (10, 99), (-3, None)]:
        assert rows[start:stop] == whole[start:stop]


def test_ids_and_tasks_are_those_of_the_rows(file: Path) -> None:
    rows, whole = RowFile(file), read_canonical(file)
    assert list(rows.ids()) == [example.id for example in whole]
    assert list(rows.tasks()) == [example.task for example in whole]


def test_rows_are_those_of_the_file_in_any_order_of_asking(file: Path) -> None:
    rows, whole = RowFile(file), read_canonical(file)
    for row in [14, 0, 3, 3, 7, -1]:
        assert rows[row] == whole[row]
    with pytest.raises(IndexError):
        rows[15]


def test_several_threads_read_their_own_rows(file: Path) -> None:
    rows, whole = RowFile(file), read_canonical(file)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(rows.__getitem__, list(range(15)) * 40)) == whole * 40


def test_a_file_without_rows_has_none(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.touch()
    assert list(RowFile(path)) == []
