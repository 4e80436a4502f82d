"""Checked access to a row's fields, and what a format's reader makes of a row."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from nearfirst.contracts.datasets import DatasetFormat
from nearfirst.data.example import Message
from nearfirst.data.files import json_type

T = TypeVar("T")

Fields = Mapping[str, Any]
"""A row's fields. A null counts as missing: Parquet fills absent fields with it."""


class BadRow(Exception):
    """A row that doesn't fit its format: the message says which field and why. Callers add the file and the place."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What a format's own fields say; `formats.to_example` adds what all formats share."""

    turns: tuple[Message, ...]
    references: tuple[str, ...] = ()
    """Right answers to the first exchange besides its assistant turn."""
    task: str | None = None
    """None: the row's `task` field."""
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RowFormat:
    """One layout: how it is recognised and read."""

    name: DatasetFormat
    signatures: tuple[frozenset[str], ...]
    """A row with all fields of one of these sets is taken for this format."""
    read: Callable[[Fields], Draft]
    """Raises BadRow."""

    def fits(self, fields: Fields) -> bool:
        """Whether a row looks like this format."""
        return any(signature <= fields.keys() for signature in self.signatures)

    def __str__(self) -> str:
        return f"{self.name} ({' or '.join(', '.join(sorted(signature)) for signature in self.signatures)})"


def value(fields: Fields, name: str) -> Any:
    """A field that must be there."""
    found = fields.get(name)
    if found is None:
        raise BadRow(f"field '{name}' is missing; the row has {', '.join(fields) or 'no fields'}")
    return found


def checked(found: Any, kind: type[T], name: str, wanted: str) -> T:
    """`found` if it is of the type wanted."""
    if not isinstance(found, kind):
        raise BadRow(f"field '{name}': wanted {wanted}, got {json_type(found)}")
    return found


def text(fields: Fields, name: str) -> str:
    """A string field."""
    return checked(value(fields, name), str, name, "a string")


def optional_text(fields: Fields, name: str) -> str | None:
    """A string field that may be missing."""
    return None if fields.get(name) is None else text(fields, name)


def texts(fields: Fields, name: str) -> tuple[str, ...]:
    """A list of strings with at least one."""
    items = checked(value(fields, name), list, name, "a list of strings")
    if not items:
        raise BadRow(f"field '{name}' is an empty list; wanted at least one string")
    return tuple(checked(item, str, f"{name}[{index}]", "a string") for index, item in enumerate(items))


def answers(fields: Fields, name: str) -> tuple[str, ...]:
    """Right answers, the training target first: a string, or a list of at least one."""
    if isinstance(value(fields, name), list):
        return texts(fields, name)
    return (checked(value(fields, name), str, name, "a string or a list of strings"),)


def exchange(prompt: str, right_answers: tuple[str, ...]) -> Draft:
    """One user turn and its answer; further right answers become references."""
    turns = (Message("user", prompt), Message("assistant", right_answers[0]))
    return Draft(turns, references=right_answers[1:])


def conversation(
    fields: Fields, name: str, *, role: str, content: str, roles: Mapping[str, str]
) -> tuple[Message, ...]:
    """Turns of a list of objects.

    Args:
        fields: the row.
        name: the field with the list.
        role: the key of a turn's speaker.
        content: the key of a turn's text.
        roles: the file's names of speakers -> `system`, `user`, `assistant`.
    """
    turns = []
    for index, item in enumerate(checked(value(fields, name), list, name, "a list of turns")):
        where = f"{name}[{index}]"
        turn = checked(item, dict, where, "an object")
        for key in (role, content):
            if turn.get(key) is None:
                raise BadRow(f"field '{where}.{key}' is missing")
        speaker = checked(turn[role], str, f"{where}.{role}", "a string")
        if speaker not in roles:
            raise BadRow(f"field '{where}.{role}': wanted one of {', '.join(roles)}, got '{speaker}'")
        turns.append(Message(roles[speaker], checked(turn[content], str, f"{where}.{content}", "a string")))
    return tuple(turns)


def check_turns(turns: Iterable[Message]) -> None:
    """Refuse a conversation that doesn't open (after its system turns) with a user turn and its answer."""
    spoken = [turn.role for turn in turns if turn.role != "system"]
    for role in ("user", "assistant"):
        if role not in spoken:
            raise BadRow(f"the row has no {role} turn")
    if spoken[:2] != ["user", "assistant"]:
        raise BadRow(f"the conversation opens with {spoken[0]}, {spoken[1]}; wanted user, assistant")
