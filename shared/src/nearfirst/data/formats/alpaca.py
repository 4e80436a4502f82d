"""Alpaca: an instruction, an optional input for it, and the output."""

from nearfirst.contracts.datasets import DatasetFormat
from nearfirst.data.formats.row import Draft, Fields, RowFormat, answers, exchange, optional_text, text


def _read(fields: Fields) -> Draft:
    """The input, when there is one, follows the instruction after an empty line."""
    instruction, given = text(fields, "instruction"), optional_text(fields, "input")
    return exchange(f"{instruction}\n\n{given}" if given else instruction, answers(fields, "output"))


ALPACA = RowFormat(DatasetFormat.ALPACA, (frozenset({"instruction", "output"}),), _read)
