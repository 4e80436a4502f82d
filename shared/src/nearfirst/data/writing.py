"""Files that appear whole or not at all."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from nearfirst.contracts.problems import InvalidInput


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
