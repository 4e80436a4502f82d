"""Flan-mini: ShareGPT turns plus the task in `source`."""

from nearfirst.contracts.datasets import DatasetFormat
from nearfirst.data.example import Message
from nearfirst.data.formats.row import Draft, Fields, RowFormat, conversation, text
from nearfirst.data.formats.sharegpt import ROLES


def _read(fields: Fields) -> Draft:
    """Values are stripped, as the paper's code does."""
    turns = conversation(fields, "conversations", role="from", content="value", roles=ROLES)
    return Draft(tuple(Message(turn.role, turn.content.strip()) for turn in turns), task=text(fields, "source"))


FLAN_MINI = RowFormat(DatasetFormat.FLAN_MINI, (frozenset({"source", "conversations"}),), _read)
