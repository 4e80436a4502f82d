"""Canonical rows by index, without the whole dataset in memory."""

import json
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, overload

from nearfirst.data.example import Example, Message


class CanonicalRows(Sequence[Example]):
    """The examples of a canonical file (`write_canonical`, not compressed), read from it when they are asked for.

    Rows are taken as they stand: the file's digest vouches for them. Not for use by several threads at once.
    """

    def __init__(self, file: IO[bytes]) -> None:
        """Reads `file` once; it must stay open and be seekable."""
        self._file = file
        self._offsets = array("q")
        self.ids: list[str] = []
        """By index."""
        offset = 0
        for line in file:
            self._offsets.append(offset)
            self.ids.append(json.loads(line)["id"])
            offset += len(line)

    def __len__(self) -> int:
        return len(self._offsets)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[row] for row in range(len(self))[index]]
        self._file.seek(self._offsets[index])
        fields = json.loads(self._file.readline())
        turns = tuple(Message(**turn) for turn in fields.pop("turns"))
        return Example(turns=turns, references=tuple(fields.pop("references")), **fields)


@contextmanager
def open_canonical_rows(path: Path) -> Iterator[CanonicalRows]:
    """The rows of a canonical file while the block runs."""
    with path.open("rb") as file:
        yield CanonicalRows(file)
