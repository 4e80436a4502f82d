"""A stored canonical file by row number: a shard reads its own rows, a search the rows that it found.

Shapes: N rows.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nearfirst.contracts.datasets import DatasetFormat
from nearfirst.data.example import Example
from nearfirst.data.formats import ROW_FORMATS, to_example

_CHUNK_BYTES = 2**22
_LINE_FEED = 0x0A


class RowFile:
    """Rows of a file that `write_canonical` wrote (not compressed), parsed only when they are asked for.

    Whoever opens it has checked the file's digest, which vouches for the rows. Memory is 8 bytes a row. Several threads
    may use it at once.
    """

    def __init__(self, path: Path) -> None:
        """Reads the file once, to find its lines."""
        self._path = path
        self._ends_N = _line_ends(path)

    def __len__(self) -> int:
        """Rows in the file."""
        return len(self._ends_N)

    def examples(self, start: int, stop: int) -> Iterator[Example]:
        """Rows [start, stop) in their order; `stop` may be above the number of rows."""
        with self._path.open("rb") as file:
            file.seek(self._begin(start))
            for index in range(start, min(stop, len(self))):
                yield _example(file.readline(), index)

    def pick(self, rows: Iterable[int]) -> Iterator[Example]:
        """The rows with these numbers, in this order."""
        with self._path.open("rb") as file:
            for index in rows:
                file.seek(self._begin(index))
                yield _example(file.readline(), index)

    def tasks(self) -> Iterator[str]:
        """The task of every row, in order."""
        with self._path.open("rb") as file:
            for line in file:
                yield json.loads(line)["task"]

    def _begin(self, index: int) -> int:
        """The byte where a row's line begins; the file's end for the row after the last."""
        return 0 if index == 0 else int(self._ends_N[index - 1]) + 1


def _example(line: bytes, index: int) -> Example:
    return to_example(json.loads(line), ROW_FORMATS[DatasetFormat.EXAMPLES], index)


def _line_ends(path: Path) -> npt.NDArray[np.int64]:
    """(N,) the offset of each line's line feed."""
    ends, offset = [np.empty(0, dtype=np.int64)], 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            ends.append(np.flatnonzero(np.frombuffer(chunk, dtype=np.uint8) == _LINE_FEED) + offset)
            offset += len(chunk)
    return np.concatenate(ends)
