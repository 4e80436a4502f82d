"""ShareGPT: `conversations` (or `items`) of from/value turns."""

from nearfirst.contracts.datasets import DatasetFormat
from nearfirst.data.formats.row import Draft, Fields, RowFormat, conversation

ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}


def _read(fields: Fields) -> Draft:
    name = "items" if fields.get("conversations") is None and "items" in fields else "conversations"
    return Draft(conversation(fields, name, role="from", content="value", roles=ROLES))


SHAREGPT = RowFormat(DatasetFormat.SHAREGPT, (frozenset({"conversations"}), frozenset({"items"})), _read)
