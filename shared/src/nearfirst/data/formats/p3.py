"""P3 (the Public Pool of Prompts): one prompt and its target, or a list of right targets."""

from nearfirst.contracts.datasets import DatasetFormat
from nearfirst.data.formats.row import Draft, Fields, RowFormat, answers, exchange, text


def _read(fields: Fields) -> Draft:
    return exchange(text(fields, "inputs_pretokenized"), answers(fields, "targets_pretokenized"))


P3 = RowFormat(DatasetFormat.P3, (frozenset({"inputs_pretokenized", "targets_pretokenized"}),), _read)
