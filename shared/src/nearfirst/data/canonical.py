"""Canonical rows: one line of bytes for an example, and the digest that names a dataset.

The digest is `sha256:<hex>` of the canonical file, so `sha256sum` of that file shows it. It depends on the examples and
their order alone: not on the layout, compression or field order of the file they were read from.
"""

import hashlib
import json
from collections.abc import Iterable
from typing import IO

from nearfirst.data.example import Example

_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))


def canonical_line(example: Example) -> bytes:
    """An example as canonical JSON in UTF-8: sorted keys, no spaces, no line break inside or at the end.

    Raises:
        UnicodeEncodeError: a text has a lone surrogate.
        TypeError, ValueError: meta has something that JSON hasn't.

    >>> canonical_line(Example(id="a/0", task="a", turns=(), references=("Hi",)))
    b'{"id":"a/0","meta":{},"references":["Hi"],"task":"a","turns":[]}'
    """
    return _ENCODER.encode(
        {
            "id": example.id,
            "task": example.task,
            "turns": [{"role": turn.role, "content": turn.content} for turn in example.turns],
            "references": example.references,
            "meta": dict(example.meta),
        }
    ).encode()


def write_canonical(examples: Iterable[Example], file: IO[bytes]) -> str:
    """Write canonical rows, a line each, to a binary file; returns the dataset's digest."""
    digest = hashlib.sha256()
    for example in examples:
        line = canonical_line(example) + b"\n"
        digest.update(line)
        file.write(line)
    return f"sha256:{digest.hexdigest()}"


def dataset_digest(examples: Iterable[Example]) -> str:
    """The digest of the canonical rows: `sha256:<hex>`."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(canonical_line(example) + b"\n")
    return f"sha256:{digest.hexdigest()}"
