"""OpenAI's messages; NoRobots adds `prompt` (the first user turn again) and `category`."""

from nearfirst.contracts.datasets import DatasetFormat
from nearfirst.data.example import Message
from nearfirst.data.formats.row import Draft, Fields, RowFormat, conversation, optional_text

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


def role_content_turns(fields: Fields, name: str) -> tuple[Message, ...]:
    """Turns of a list of `{"role", "content"}`."""
    return conversation(fields, name, role="role", content="content", roles=_ROLES)


def _read(fields: Fields) -> Draft:
    category = optional_text(fields, "category")
    meta = {} if category is None else {"category": category}
    return Draft(role_content_turns(fields, "messages"), meta=meta)


MESSAGES = RowFormat(DatasetFormat.MESSAGES, (frozenset({"messages"}),), _read)
