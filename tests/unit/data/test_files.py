"""Rows come out of every layout, and bad files name the line."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from nearfirst.contracts.problems import InvalidDataset
from nearfirst.data.files import read_rows

ROWS = [{"prompt": f"p{i}", "completion": "ü" * i} for i in range(5)]
JSONL = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


def fields_of(path: Path) -> list[dict[str, Any]]:
    return [row.fields for row in read_rows(path)]


@pytest.mark.parametrize("name", ["data.jsonl", "data.ndjson", "data.json", "upload"])
@pytest.mark.parametrize(
    "compress", [bytes, gzip.compress, zstandard.ZstdCompressor().compress], ids=["plain", "gzip", "zstd"]
)
@pytest.mark.parametrize(
    "content",
    [
        JSONL,
        b"\xef\xbb\xbf" + JSONL,
        JSONL.replace(b"\n", b"\r\n\r\n"),
        JSONL.rstrip(b"\n"),
    ],
    ids=["lines", "byte order mark", "blank lines", "no last newline"],
)
def test_jsonl_is_read_under_any_name_and_compression(tmp_path: Path, name: str, compress: Any, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(compress(content))
    assert fields_of(path) == ROWS


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("wrap", [lambda rows: rows, lambda rows: {"version": 1, "data": rows}], ids=["list", "object"])
def test_json_documents_are_lists_or_objects_with_one_list(tmp_path: Path, wrap: Any, indent: int | None) -> None:
    path = tmp_path / "data.json.gz"
    path.write_bytes(gzip.compress(json.dumps(wrap(ROWS), indent=indent).encode()))
    assert fields_of(path) == ROWS


def test_parquet_is_read_with_nested_lists(tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "id": 3}] * 2
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data.parquet")
    assert fields_of(tmp_path / "data.parquet") == rows
    assert [str(row.place) for row in read_rows(tmp_path / "data.parquet")] == ["row 1", "row 2"]


def test_several_zstd_frames_are_one_file(tmp_path: Path) -> None:
    half = JSONL.index(b"\n") + 1
    frames = [zstandard.ZstdCompressor().compress(part) for part in (JSONL[:half], JSONL[half:])]
    (tmp_path / "data.jsonl.zst").write_bytes(b"".join(frames))
    assert fields_of(tmp_path / "data.jsonl.zst") == ROWS


def test_blank_lines_count_in_line_numbers(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_bytes(b'{"a": 1}\n\n\n{"a": 2}\n')
    assert [str(row.place) for row in read_rows(tmp_path / "data.jsonl")] == ["line 1", "line 4"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"a": 1,}', "line 17 is not valid JSON"),
        (b'{"a": "\xff"}', "line 17 is not UTF-8: it has the byte 0xff"),
        (b'{"a": NaN}', "line 17 is not valid JSON: NaN is not a JSON value"),
        (b"[1, 2]", "line 17: wanted a JSON object, got a list"),
        (b'{"a": ' + b"[" * 100_000, "line 17 is not valid JSON"),
        (b'{"a": ' + b"1" * 10_000 + b"}", "line 17 is not valid JSON"),
    ],
    ids=["syntax", "encoding", "NaN", "not an object", "nesting", "digits"],
)
def test_a_bad_line_is_named(tmp_path: Path, line: bytes, message: str) -> None:
    lines = [b'{"a": 1}'] * 20
    lines[16] = line
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(InvalidDataset) as caught:
        fields_of(path)
    assert caught.value.detail.startswith(f"data.jsonl: {message}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "data.json: the file is empty: it has no rows"),
        (b" \n\n", "data.json: the file is empty: it has no rows"),
        (b"[]", "data.json: the file is empty: it has no rows"),
        (b"3", "data.json: wanted a list of rows or an object with one, got a number"),
        (b'[{"a": 1}, "x"]', "data.json: row 2: wanted a JSON object, got a string"),
        (b'[{"a": 1},\n {"a": 2,}]', "data.json: line 2 is not valid JSON"),
        (b'[{"a": 1},\n {"a": "\xc3"}]', "data.json: line 2 is not UTF-8"),
        (b'{"a": [{"x": 1}], "b": [{"x": 1}]}', "got an object with 2 such lists (its fields: a, b)"),
        (b'{"a": 1}', "got an object with 0 such lists (its fields: a)"),
    ],
)
def test_a_bad_document_is_refused_with_its_place(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "data.json").write_bytes(content)
    with pytest.raises(InvalidDataset) as caught:
        fields_of(tmp_path / "data.json")
    assert message in caught.value.detail


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.ZstdCompressor().compress], ids=["gzip", "zstd"])
def test_a_compressed_file_cut_short_is_refused(tmp_path: Path, compress: Any) -> None:
    whole = compress(b"".join(json.dumps({"a": i * 7919}).encode() + b"\n" for i in range(50_000)))
    (tmp_path / "data.jsonl").write_bytes(whole[: len(whole) - 12])
    with pytest.raises(InvalidDataset, match=r"data\.jsonl: the file is damaged, cut short or can't be read"):
        fields_of(tmp_path / "data.jsonl")


def test_a_damaged_parquet_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.parquet").write_bytes(b"PAR1" + b"\0" * 40)
    with pytest.raises(InvalidDataset, match=r"data\.parquet: not readable as Parquet after row 0"):
        fields_of(tmp_path / "data.parquet")


def test_an_empty_parquet_file_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": pa.array([], pa.int64())}), tmp_path / "data.parquet")
    with pytest.raises(InvalidDataset, match="it has no rows"):
        fields_of(tmp_path / "data.parquet")


def test_a_missing_file_is_refused_under_the_given_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataset, match=r"mine\.jsonl: no such file"):
        list(read_rows(tmp_path / "x", name="mine.jsonl"))
