"""Rows of JSONL, JSON and Parquet files, plain or compressed, each with the place that an error can name.

Compression and layout are found from the bytes, so that an upload under any name is read:

- `.gz` and `.zst` by their magic numbers, around JSONL or JSON;
- Parquet by its magic number;
- otherwise a file called `.jsonl` or `.ndjson`, or one whose first line is a whole JSON object followed by another line,
  is JSONL; the rest is one JSON document: a list of rows, or an object with exactly one list of objects.

JSONL and Parquet are streamed; a JSON document is held in memory whole.
"""

import gzip
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from nearfirst.contracts.problems import InvalidDataset

_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_PARQUET_MAGIC = b"PAR1"
_UTF8_BOM = b"\xef\xbb\xbf"
_LINE_SUFFIXES = frozenset({".jsonl", ".ndjson"})
_PARQUET_BATCH_ROWS = 4096


class Place(NamedTuple):
    """Where a row is in its file."""

    unit: Literal["line", "row"]
    """JSONL counts lines (blank ones too); JSON and Parquet count rows."""
    number: int
    """From 1."""

    def __str__(self) -> str:
        return f"{self.unit} {self.number}"


class SourceRow(NamedTuple):
    """One row as the file holds it."""

    place: Place
    fields: dict[str, Any]


def read_rows(path: Path, *, name: str | None = None) -> Iterator[SourceRow]:
    """Rows of a file, in file order.

    Args:
        path: the file.
        name: what errors call it, and whose suffix is looked at; None: the file's own name.

    Raises:
        InvalidDataset: no such file; broken compression; a line that is not UTF-8, not JSON or not an object (named by
            its 1-based number); a document of another shape; no rows at all.
    """
    name = name or path.name
    if not path.is_file():
        raise InvalidDataset(f"{name}: no such file")
    with _readable(name):
        rows = _parquet_rows(path) if _starts_with(path, _PARQUET_MAGIC) else _text_rows(path, name)
        row = None
        for row in rows:
            yield row
        if row is None:
            raise InvalidDataset(f"{name}: the file has no rows")


def _starts_with(path: Path, magic: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Turn what decompressors and pyarrow raise into InvalidDataset."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as error:
        raise InvalidDataset(f"{name}: the compressed file is damaged or cut short: {error}") from error
    except (pa.ArrowException, OSError) as error:
        raise InvalidDataset(f"{name}: can't be read: {error}") from error


def _open_decompressed(path: Path) -> IO[bytes]:
    if _starts_with(path, _GZIP_MAGIC):
        return gzip.open(path, "rb")
    if _starts_with(path, _ZSTD_MAGIC):
        stream: IO[bytes] = zstandard.open(path, "rb")
        return stream
    return path.open("rb")


def _parquet_rows(path: Path) -> Iterator[SourceRow]:
    number = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=_PARQUET_BATCH_ROWS):
            for fields in batch.to_pylist():
                number += 1
                yield SourceRow(Place("row", number), fields)


def _text_rows(path: Path, name: str) -> Iterator[SourceRow]:
    with _open_decompressed(path) as file:
        if _is_jsonl(file, name):
            yield from _jsonl_rows(file, name)
        else:
            yield from _document_rows(file.read(), name)


def _is_jsonl(file: IO[bytes], name: str) -> bool:
    """Tell JSONL from one JSON document, and go back to the file's start."""
    if _LINE_SUFFIXES & set(Path(name).suffixes):
        return True
    first = next((line for line in file if line.strip()), b"").removeprefix(_UTF8_BOM)
    is_followed = any(line.strip() for line in file)
    file.seek(0)
    if not (is_followed and first.lstrip().startswith(b"{")):
        return False
    try:
        json.loads(first.decode())
    except (ValueError, RecursionError):
        return False
    return True


def _jsonl_rows(file: IO[bytes], name: str) -> Iterator[SourceRow]:
    for number, line in enumerate(file, start=1):
        text = line.removeprefix(_UTF8_BOM) if number == 1 else line
        if text.isspace() or not text:
            continue
        place = Place("line", number)
        fields = _parse(_decode(text, f"{name}: {place}"), f"{name}: {place}")
        if not isinstance(fields, dict):
            raise InvalidDataset(f"{name}: {place}: wanted a JSON object, got {json_type(fields)}")
        yield SourceRow(place, fields)


def _document_rows(content: bytes, name: str) -> Iterator[SourceRow]:
    content = content.removeprefix(_UTF8_BOM)
    if not content.strip():
        return
    document = _parse(_decode_document(content, name), name)
    for number, fields in enumerate(_rows_of(document, name), start=1):
        place = Place("row", number)
        if not isinstance(fields, dict):
            raise InvalidDataset(f"{name}: {place}: wanted a JSON object, got {json_type(fields)}")
        yield SourceRow(place, fields)


def _rows_of(document: Any, name: str) -> list[Any]:
    """The list of rows in a JSON document."""
    if isinstance(document, list):
        return document
    if not isinstance(document, dict):
        raise InvalidDataset(f"{name}: wanted a list of rows or an object with one, got {json_type(document)}")
    lists = [
        key
        for key, value in document.items()
        if isinstance(value, list) and all(isinstance(item, dict) for item in value)
    ]
    if len(lists) != 1:
        raise InvalidDataset(
            f"{name}: wanted a list of rows, or an object with exactly one list of rows;"
            f" got an object with {len(lists)} such lists (its fields: {', '.join(sorted(document)) or 'none'})"
        )
    rows: list[Any] = document[lists[0]]
    return rows


def _decode(line: bytes, where: str) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise InvalidDataset(
            f"{where} is not UTF-8: byte 0x{line[error.start]:02x} at byte {error.start + 1} of the line"
        ) from error


def _decode_document(content: bytes, name: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidDataset(f"{name}: line {line} is not UTF-8: byte 0x{content[error.start]:02x}") from error


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _parse(text: str, where: str) -> Any:
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        spot = f"column {error.colno}" if ": line " in where else f"line {error.lineno}, column {error.colno}"
        raise InvalidDataset(f"{where} is not valid JSON: {error.msg} at {spot}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidDataset(f"{where} is not valid JSON: {error}") from error


def json_type(value: object) -> str:
    """What a JSON value is, in words for an error."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return "null" if value is None else names.get(type(value), f"a {type(value).__name__}")
