"""Rows of JSONL, JSON and Parquet files, plain or compressed, each with the place that an error can name.

Layout is found from the bytes, so that an upload under any name is read. Parquet has a magic number. A file called
`.jsonl` or `.ndjson`, or one whose first line is a whole JSON object followed by another line, is JSONL. The rest is
one JSON document: a list of rows, or an object with exactly one list of objects. JSONL and JSON may be inside gzip or
Zstandard. JSONL and Parquet are streamed; a JSON document is held in memory whole.
"""

import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn

import zstandard

from nearfirst.contracts.problems import InvalidDataset
from nearfirst.data.compression import open_decompressed, starts_with

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


def read_rows(path: Path, *, name: str | None = None, as_lines: bool = False) -> Iterator[SourceRow]:
    """Rows of a file, in file order.

    Args:
        path: the file.
        name: what errors call it, and whose suffix is looked at; None: the file's own name.
        as_lines: the file is known to be JSON lines; a file of one line looks like a document.

    Raises:
        InvalidDataset: no such file; broken compression; a line that is not UTF-8, not JSON or not an object (named by
            its 1-based number); a document of another shape; no rows at all.
    """
    name = name or path.name
    if not path.is_file():
        raise InvalidDataset(f"{name}: no such file")
    row = None
    with _damage_as_invalid(name):
        rows = _parquet_rows(path, name) if starts_with(path, _PARQUET_MAGIC) else _text_rows(path, name, as_lines)
        for row in rows:
            yield row
    if row is None:
        raise InvalidDataset(f"{name}: the file is empty: it has no rows")


def read_document(path: Path) -> Any:
    """One JSON document, whole.

    Raises:
        InvalidDataset: no such file, broken compression, not UTF-8 or not JSON; the last two name the line.
    """
    if not path.is_file():
        raise InvalidDataset(f"{path.name}: no such file")
    with _damage_as_invalid(path.name):
        return _parse(_content(path), path.name, first_line=1)


def json_type(value: object) -> str:
    """What a JSON value is, in words for an error."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return "null" if value is None else names.get(type(value), f"a {type(value).__name__}")


@contextmanager
def _damage_as_invalid(name: str) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, zstandard.ZstdError, OSError) as error:
        raise InvalidDataset(f"{name}: the file is damaged, cut short or can't be read: {error}") from error


def _parquet_rows(path: Path, name: str) -> Iterator[SourceRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_PARQUET_BATCH_ROWS):
                for fields in batch.to_pylist():
                    number += 1
                    yield SourceRow(Place("row", number), fields)
    except (pa.ArrowException, ValueError, OverflowError) as error:  # dates that Python has no word for
        raise InvalidDataset(f"{name}: not readable as Parquet after row {number}: {error}") from error


def _text_rows(path: Path, name: str, as_lines: bool) -> Iterator[SourceRow]:
    if as_lines or _is_jsonl(path, name):
        return _jsonl_rows(path, name)
    return _document_rows(path, name)


def _is_jsonl(path: Path, name: str) -> bool:
    if _LINE_SUFFIXES & set(Path(name).suffixes):
        return True
    with open_decompressed(path) as file:
        first = next((line for line in file if line.strip()), b"").removeprefix(_UTF8_BOM)
        if not first.lstrip().startswith(b"{") or not any(line.strip() for line in file):
            return False
    try:
        json.loads(first.decode())
    except (ValueError, RecursionError):
        return False
    return True


def _jsonl_rows(path: Path, name: str) -> Iterator[SourceRow]:
    with open_decompressed(path) as file:
        for number, line in enumerate(file, start=1):
            content = (line.removeprefix(_UTF8_BOM) if number == 1 else line).strip()
            if content:
                yield _source_row(Place("line", number), _parse(content, name, first_line=number), name)


def _document_rows(path: Path, name: str) -> Iterator[SourceRow]:
    content = _content(path)
    if not content.strip():
        return
    for number, row in enumerate(_list_of_rows(_parse(content, name, first_line=1), name), start=1):
        yield _source_row(Place("row", number), row, name)


def _content(path: Path) -> bytes:
    with open_decompressed(path) as file:
        return file.read().removeprefix(_UTF8_BOM)


def _source_row(place: Place, row: Any, name: str) -> SourceRow:
    if not isinstance(row, dict):
        raise InvalidDataset(f"{name}: {place}: wanted a JSON object, got {json_type(row)}")
    return SourceRow(place, row)


def _list_of_rows(document: Any, name: str) -> list[Any]:
    """The list of rows in a JSON document."""
    if isinstance(document, list):
        return document
    if not isinstance(document, dict):
        raise InvalidDataset(f"{name}: wanted a list of rows or an object with one, got {json_type(document)}")
    lists = [value for value in document.values() if isinstance(value, list) and _are_objects(value)]
    if len(lists) != 1:
        raise InvalidDataset(
            f"{name}: wanted a list of rows, or an object with exactly one list of rows;"
            f" got an object with {len(lists)} such lists (its fields: {', '.join(sorted(document)) or 'none'})"
        )
    return lists[0]


def _are_objects(values: list[Any]) -> bool:
    return all(isinstance(value, dict) for value in values)


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON value")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _parse(content: bytes, name: str, *, first_line: int) -> Any:
    """Parse UTF-8 JSON; `first_line` is the line of the file that `content` starts on."""
    try:
        return _DECODER.decode(content.decode())
    except UnicodeDecodeError as error:
        line = first_line + content.count(b"\n", 0, error.start)
        byte = content[error.start]
        raise InvalidDataset(f"{name}: line {line} is not UTF-8: it has the byte 0x{byte:02x}") from error
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        raise InvalidDataset(f"{name}: line {line} is not valid JSON: {error.msg} at column {error.colno}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidDataset(f"{name}: line {first_line} is not valid JSON: {error}") from error
