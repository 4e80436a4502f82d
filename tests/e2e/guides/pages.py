"""Guides as programs: the shell blocks of a page, in order, and what the page says that they print.

In a page

    ```sh           is run, in one shell for the whole page, in a folder that is empty at first
    ```text         after it: what the run must have printed, but for numbers, ids and spaces; `...` stands for any
    ```console      is shown and not run
"""

import re
from dataclasses import dataclass
from pathlib import Path

GUIDES = Path(__file__).parents[3] / "docs" / "guides"
_FENCE = re.compile(r"^```(?P<kind>[a-z]*)\n(?P<body>.*?)^```$", re.DOTALL | re.MULTILINE)
_ID = re.compile(r"\b(ds|arr|job|evl|std)_[0-9a-f]{16}\b|sha256:[0-9a-f…]+|\b[0-9a-f]{12,}\b")
_NUMBER = re.compile(r"[-+−]?\d[\d.,:]*(e[-+]?\d+)?")
_VARYING = re.compile(r"[─━═]+")
_OMITTED = "..."


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    kind: str
    body: str
    line: int
    """Where it begins in the page."""


def blocks_of(page: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    return [
        Block(found["kind"], found["body"], page.count("\n", 0, found.start()) + 1) for found in _FENCE.finditer(page)
    ]


def announced(block: Block) -> list[str]:
    """The lines that a block of kind text says are printed, each without what varies between runs."""
    lines = [line for line in block.body.splitlines() if line.strip() and line.strip() != _OMITTED]
    return [normalised(part) for line in lines for part in line.split(_OMITTED) if part.strip()]


def normalised(text: str) -> str:
    """A text without what varies between runs: ids, digests, numbers, and the spaces and rules around them.

    >>> normalised("job_0123456789abcdef: 12 of 34,5 MB") == normalised("job_aaaaaaaaaaaaaaaa:  7 of 8 MB")
    True
    """
    text = _NUMBER.sub("0", _ID.sub("ID", text))
    return " ".join(_VARYING.sub("", text).split())
