"""A stored canonical file by row number: a shard reads its own rows, a search those that it found, an export all.

Shapes: N rows.
"""

import json
import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from nearfirst.contracts.datasets import DatasetFormat
from nearfirst.data.example import Example
from nearfirst.data.formats import ROW_FORMATS, to_example

_CHUNK_BYTES = 2**22
_LINE_FEED = 0x0A


class RowFile(Sequence[Example]):
    """The examples of a file that `write_canonical` wrote (not compressed), parsed only when they are asked for.

    Whoever opens it has checked the file's digest, which vouches for the rows. Memory is 8 bytes a row; the file is
    memory-mapped, and must not be written to. Several threads may use it at once.
    """

    def __init__(self, path: Path) -> None:
        """Reads the file once, to find its lines."""
        self._content = _mapped(path)
        self._ends_N = _line_ends(self._content)

    def __len__(self) -> int:
        return len(self._ends_N)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[row] for row in range(len(self))[index]]
        row = range(len(self))[index]
        return to_example(self._fields(row), ROW_FORMATS[DatasetFormat.EXAMPLES], row)

    def ids(self) -> Iterator[str]:
        """The id of every row, in order."""
        return (self._fields(row)["id"] for row in range(len(self)))

    def tasks(self) -> Iterator[str]:
        """The task of every row, in order."""
        return (self._fields(row)["task"] for row in range(len(self)))

    def _fields(self, row: int) -> dict[str, Any]:
        begin = 0 if row == 0 else int(self._ends_N[row - 1]) + 1
        fields: dict[str, Any] = json.loads(self._content[begin : int(self._ends_N[row])])
        return fields


def _mapped(path: Path) -> mmap.mmap | bytes:
    """The file's bytes; an empty file can't be mapped."""
    with path.open("rb") as file:
        is_empty = path.stat().st_size == 0
        return b"" if is_empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _line_ends(content: mmap.mmap | bytes) -> npt.NDArray[np.int64]:
    """(N,) the offset of each line's line feed."""
    ends = [np.empty(0, dtype=np.int64)]
    for start in range(0, len(content), _CHUNK_BYTES):
        chunk = np.frombuffer(content[start : start + _CHUNK_BYTES], dtype=np.uint8)
        ends.append(np.flatnonzero(chunk == _LINE_FEED) + start)
    return np.concatenate(ends)
