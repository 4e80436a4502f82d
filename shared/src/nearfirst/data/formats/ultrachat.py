"""UltraChat: `data` is a list of texts, user and assistant in turn; the filtered release has `messages` instead."""

from nearfirst.contracts.datasets import DatasetFormat
from nearfirst.data.example import Message
from nearfirst.data.formats.messages import role_content_turns
from nearfirst.data.formats.row import Draft, Fields, RowFormat, texts


def _read(fields: Fields) -> Draft:
    if fields.get("data") is None and "messages" in fields:
        return Draft(role_content_turns(fields, "messages"))
    spoken = texts(fields, "data")
    return Draft(tuple(Message("assistant" if index % 2 else "user", said) for index, said in enumerate(spoken)))


ULTRACHAT = RowFormat(DatasetFormat.ULTRACHAT, (frozenset({"data"}),), _read)
