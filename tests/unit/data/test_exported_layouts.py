"""Earlier turns of alpaca rows and TRL's conversational form are read, and refused where they are broken."""

import pytest

from nearfirst.contracts.problems import InvalidDataset
from nearfirst.data.dataset import load_dataset

SYSTEM, Q, A = ("system", "Be kind."), ("user", "Who?"), ("assistant", "Me.")
Q2, A2 = ("user", "Why?"), ("assistant", "So.")
ALPACA = {"instruction": "Why?", "output": "So."}


def message(role, content):
    return {"role": role, "content": content}


@pytest.mark.parametrize(
    ("row", "turns"),
    [
        (ALPACA | {"system": "Be kind."}, [SYSTEM, Q2, A2]),
        (ALPACA | {"system": "", "history": []}, [Q2, A2]),
        (ALPACA | {"system": None, "history": None}, [Q2, A2]),
        (ALPACA | {"input": "x", "history": [["Who?", "Me."]]}, [Q, A, ("user", "Why?\n\nx"), A2]),
        (ALPACA | {"system": "Be kind.", "history": [["Who?", "Me."]]}, [SYSTEM, Q, A, Q2, A2]),
        (
            {"prompt": [message(*SYSTEM), message(*Q), message(*A), message(*Q2)], "completion": [message(*A2)]},
            [SYSTEM, Q, A, Q2, A2],
        ),
    ],
)
def test_all_turns_are_read(write_rows, row, turns):
    (example,) = load_dataset(write_rows(row)).examples
    assert [(turn.role, turn.content) for turn in example.turns] == turns
    assert example.references == (next(text for role, text in turns if role == "assistant"),)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (ALPACA | {"history": "Who?"}, r"'history': wanted a list of \[user, assistant\] pairs, got a string"),
        (ALPACA | {"history": [["Who?"]]}, r"'history\[0\]': wanted a pair \[user, assistant\], got 1 entries"),
        (ALPACA | {"history": [["Who?", "Me."], ["a", 1]]}, r"'history\[1\]': wanted two strings, got a number"),
        (ALPACA | {"output": ["So.", "Thus."], "history": [["Who?", "Me."]]}, "'output': wanted a string, got a list"),
        (ALPACA | {"system": ["Be kind."]}, "'system': wanted a string, got a list"),
        ({"prompt": [message(*Q)], "completion": "Me."}, "'completion': wanted a list of turns, got a string"),
        ({"prompt": [message(*Q)], "completion": [message(*Q2)]}, "no assistant turn"),
    ],
)
def test_what_is_broken_is_refused_with_its_field(write_rows, row, said):
    with pytest.raises(InvalidDataset, match=said):
        load_dataset(write_rows(row))


def test_several_right_answers_without_history_are_references_as_before(write_rows):
    (example,) = load_dataset(write_rows(ALPACA | {"output": ["So.", "Thus."], "system": "Be kind."})).examples
    assert example.references == ("So.", "Thus.")
