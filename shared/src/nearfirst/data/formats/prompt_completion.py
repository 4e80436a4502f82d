"""Prompt and completion, as fine-tuning APIs and TRL take them: texts, or both as lists of messages."""

from nearfirst.contracts.datasets import DatasetFormat
from nearfirst.data.formats.messages import role_content_turns
from nearfirst.data.formats.row import Draft, Fields, RowFormat, answers, exchange, text, value


def _read(fields: Fields) -> Draft:
    """A list of messages as prompt is TRL's conversational form: the completion's messages follow it."""
    if isinstance(value(fields, "prompt"), list):
        return Draft(role_content_turns(fields, "prompt") + role_content_turns(fields, "completion"))
    return exchange(text(fields, "prompt"), answers(fields, "completion"))


PROMPT_COMPLETION = RowFormat(DatasetFormat.PROMPT_COMPLETION, (frozenset({"prompt", "completion"}),), _read)
