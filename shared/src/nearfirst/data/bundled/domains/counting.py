"""Counting: word problems with small numbers in words."""

from nearfirst.data.bundled.task import NAMES, NUMBER_WORDS, Draw, Row, Task

_THINGS = ("marbles", "pencils", "stickers", "coins", "buttons", "shells", "stamps", "balloons")


def _gets_more(draw: Draw) -> Row:
    (name, friend), things = draw.some(NAMES, 2), draw.one(_THINGS)
    had, got = draw.number(2, 10), draw.number(2, 10)
    return Row(
        f"{name} has {NUMBER_WORDS[had]} {things}. {friend} gives {name} {NUMBER_WORDS[got]} more {things}. "
        f"How many {things} does {name} have now?",
        (f"{name} has {NUMBER_WORDS[had + got]} {things} now.",),
    )


def _gives_away(draw: Draw) -> Row:
    (name, friend), things = draw.some(NAMES, 2), draw.one(_THINGS)
    given = draw.number(2, 9)
    left = draw.number(1, 10)
    return Row(
        f"{name} had {NUMBER_WORDS[given + left]} {things} and gave {NUMBER_WORDS[given]} of the {things} to {friend}. "
        f"How many {things} are left for {name}?",
        (f"{name} has {NUMBER_WORDS[left]} {things} left.",),
    )


def _together(draw: Draw) -> Row:
    (name, friend), things = draw.some(NAMES, 2), draw.one(_THINGS)
    mine, yours = draw.number(2, 10), draw.number(2, 10)
    return Row(
        f"{name} owns {NUMBER_WORDS[mine]} {things}, and {friend} owns {NUMBER_WORDS[yours]} {things}. In the evening "
        f"they put all {things} into one box that {name} keeps. How many {things} does {name} have then?",
        (f"{name} has {NUMBER_WORDS[mine + yours]} {things} now.",),
    )


def _two_steps(draw: Draw) -> Row:
    (name, friend), things = draw.some(NAMES, 2), draw.one(_THINGS)
    had, lost, found = draw.number(6, 12), draw.number(2, 5), draw.number(2, 8)
    total = NUMBER_WORDS[had - lost + found]
    return Row(
        f"In the morning {name} counts {NUMBER_WORDS[had]} {things}. At noon {NUMBER_WORDS[lost]} {things} are "
        f"lost, and in the evening {friend} brings {NUMBER_WORDS[found]} new {things}. "
        f"How many {things} does {name} own at night?",
        (f"{name} has {total} {things} now.", f"{total.capitalize()} {things}."),
    )


TASKS = (
    Task("counting_gets_more", "counting", "train", _gets_more),
    Task("counting_gives_away", "counting", "train", _gives_away),
    Task("counting_together", "counting", "train", _together),
    Task("counting_two_steps", "counting", "test", _two_steps),
)
