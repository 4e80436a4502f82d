"""Prompt and completion, as fine-tuning APIs and TRL take them."""

from nearfirst.contracts.datasets import DatasetFormat
from nearfirst.data.formats.row import Draft, Fields, RowFormat, answers, exchange, text


def _read(fields: Fields) -> Draft:
    return exchange(text(fields, "prompt"), answers(fields, "completion"))


PROMPT_COMPLETION = RowFormat(DatasetFormat.PROMPT_COMPLETION, (frozenset({"prompt", "completion"}),), _read)
