"""One instruction-tuning example, whatever file it came from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nearfirst.contracts.arrangements import TextRule


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation."""

    role: str
    """`system`, `user` or `assistant`."""
    content: str


@dataclass(frozen=True, slots=True)
class Example:
    """A conversation with at least one user and one assistant turn."""

    id: str
    """Unique in its dataset: the file's own id, or `TASK/INDEX` when it has none."""
    task: str
    """The task it belongs to; `""` when the file names none."""
    turns: tuple[Message, ...]
    references: tuple[str, ...]
    """Every right answer to the first exchange, the training target first."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """What else the file said of it: category, definition."""


def embedded_text(example: Example, rule: TextRule) -> str:
    """The text of an example that stands for it in the embedding space.

    Args:
        example: the example.
        rule: `first_turn` = "{user} {assistant}" of the first exchange; `all_turns` = every turn but the system's,
            joined by a space; `instruction` = the first user turn.

    References: the paper's code embeds "{turn0} {turn1}" for TMA and all turns for WSD.
    """
    spoken = [turn for turn in example.turns if turn.role != "system"]
    if rule is TextRule.ALL_TURNS:
        return " ".join(turn.content for turn in spoken)
    if rule is TextRule.INSTRUCTION:
        return next(turn.content for turn in spoken if turn.role == "user")
    return " ".join(turn.content for turn in spoken[:2])
