"""What the bundled data's tasks are made of: seeded draws, rows, and tasks with a domain."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar

T = TypeVar("T")


class Draw:
    """Seeded choices that stay the same in every Python version.

    Built on `random.Random.random` alone: the one method whose sequence for a seed is promised to stay.
    """

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)

    def number(self, low: int, high: int) -> int:
        """An integer from low to high, both included."""
        return low + int(self._random.random() * (high - low + 1))

    def one(self, items: Sequence[T]) -> T:
        """One of the items."""
        return items[self.number(0, len(items) - 1)]

    def some(self, items: Sequence[T], count: int) -> list[T]:
        """`count` different items, in random order."""
        pool = list(items)
        return [pool.pop(self.number(0, len(pool) - 1)) for _ in range(count)]


class Row(NamedTuple):
    """A prompt and its right answers, the training target first."""

    prompt: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """One task of the bundled data."""

    name: str
    domain: str
    """Training tasks of a test task's domain are the ones related to it."""
    split: Literal["train", "test"]
    write: Callable[[Draw], Row]
    """Makes a row from draws."""


NAMES = ("Anna", "Ben", "Clara", "David", "Elena", "Felix", "Greta", "Hugo", "Ida", "Jonas", "Lina", "Milo")
CITIES = ("Bergen", "Porto", "Lyon", "Krakow", "Dublin", "Turin", "Ghent", "Malmo", "Split", "Basel")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
NUMBER_WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
"""NUMBER_WORDS[n] is n in words."""
