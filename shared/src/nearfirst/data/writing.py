"""Files that appear whole or not at all."""

import os
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from nearfirst.contracts.problems import InvalidInput


def refuse_bad_output(out: Path, suffixes: Collection[str], *, inputs: Collection[Path], beside: str) -> None:
    """Refuse what a command can't or shouldn't write to, before it computes for hours.

    Args:
        out: the option's value.
        suffixes: those that it may end in.
        inputs: what the command reads.
        beside: what follows the output's name in that of the file that is written beside it.

    Raises:
        InvalidInput: another suffix, no folder to write in, a folder in its place, or one of the inputs would be lost.
    """
    if out.suffix not in suffixes:
        raise InvalidInput(f"out: got {out}, wanted a name that ends in {' or '.join(sorted(suffixes))}")
    if not out.parent.is_dir():
        raise InvalidInput(f"out: got {out}, wanted a file in a folder that exists")
    if not os.access(out.parent, os.W_OK):
        raise InvalidInput(f"out: got {out}, wanted a file in a folder that can be written")
    kept = {path.resolve() for path in inputs}
    for path in (out, out.with_name(f"{out.name}{beside}")):
        if path.exists() and not path.is_file():
            raise InvalidInput(f"out: {path} is no ordinary file and is not replaced")
        if path.resolve() in kept:
            raise InvalidInput(f"out: got {out}, which would replace {path}, a file that is read")


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that takes its name when it is complete and on disk; an error leaves what was there before.

    Raises:
        InvalidInput: `path` is something other than an ordinary file.
    """
    if path.exists() and not path.is_file():
        raise InvalidInput(f"{path} is no ordinary file and is not replaced")
    partial = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
