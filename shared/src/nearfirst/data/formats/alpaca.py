"""Alpaca: an instruction, an optional input for it, and the output; LLaMA-Factory adds `system` and `history`."""

from nearfirst.contracts.datasets import DatasetFormat
from nearfirst.data.example import Message
from nearfirst.data.formats.row import BadRow, Draft, Fields, RowFormat, answers, checked, optional_text, text


def _read(fields: Fields) -> Draft:
    """The input, when there is one, follows the instruction after an empty line.

    `system`, when it isn't empty, is the first turn; `history` holds the exchanges before the instruction. `output` is
    one text then: references are answers to the first exchange.
    """
    instruction, given = text(fields, "instruction"), optional_text(fields, "input")
    asked = f"{instruction}\n\n{given}" if given else instruction
    system, earlier = optional_text(fields, "system"), _history(fields)
    right_answers = (text(fields, "output"),) if earlier else answers(fields, "output")
    opening = (Message("system", system),) if system else ()
    last = (Message("user", asked), Message("assistant", right_answers[0]))
    return Draft((*opening, *earlier, *last), references=right_answers[1:])


def _history(fields: Fields) -> tuple[Message, ...]:
    """Turns of a list of [user, assistant] pairs; none when there is no such list."""
    if fields.get("history") is None:
        return ()
    turns = []
    for index, item in enumerate(checked(fields["history"], list, "history", "a list of [user, assistant] pairs")):
        pair = checked(item, list, f"history[{index}]", "a pair [user, assistant]")
        if len(pair) != 2:
            raise BadRow(f"field 'history[{index}]': wanted a pair [user, assistant], got {len(pair)} entries")
        asked, answered = (checked(said, str, f"history[{index}]", "two strings") for said in pair)
        turns += [Message("user", asked), Message("assistant", answered)]
    return tuple(turns)


ALPACA = RowFormat(DatasetFormat.ALPACA, (frozenset({"instruction", "output"}),), _read)
