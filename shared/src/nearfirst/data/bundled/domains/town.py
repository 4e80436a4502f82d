"""Town: finding the way on foot and by bus."""

from nearfirst.data.bundled.task import NAMES, NUMBER_WORDS, Draw, Row, Task

_PLACES = ("bakery", "library", "town hall", "post office", "cinema", "train station", "pharmacy", "swimming pool")
_LANDMARKS = ("the old fountain", "the brick tower", "the stone bridge", "the chestnut tree", "the clock", "the statue")
_OPPOSITE = {"north": "south", "south": "north", "east": "west", "west": "east"}


def _directions(draw: Draw) -> Row:
    (start, goal), landmark = draw.some(_PLACES, 2), draw.one(_LANDMARKS)
    blocks, side = NUMBER_WORDS[draw.number(2, 9)], draw.one(list(_OPPOSITE))
    return Row(
        f"A tourist at the {start} asks for the way to the {goal}. The {goal} is {blocks} blocks {side} of the "
        f"{start}, right behind {landmark}. Give the directions.",
        (f"From the {start}, walk {blocks} blocks {side} and pass {landmark} to reach the {goal}.",),
    )


def _bus_stop(draw: Draw) -> Row:
    before, here, after = draw.some(_PLACES, 3)
    name, line, landmark = draw.one(NAMES), draw.number(1, 60), draw.one(_LANDMARKS)
    return Row(
        f"Bus line {line} stops at the {before}, then at the {here}, and finally at the {after} next to {landmark}. "
        f"{name} gets on at the {here}. Which stop comes next on the way?",
        (f"From the {here}, the bus goes to the {after}, so get off near {landmark}.",),
    )


def _meeting_point(draw: Draw) -> Row:
    (start, goal), landmark = draw.some(_PLACES, 2), draw.one(_LANDMARKS)
    (name, friend), blocks, side = draw.some(NAMES, 2), NUMBER_WORDS[draw.number(2, 9)], draw.one(list(_OPPOSITE))
    return Row(
        f"{name} and {friend} want to meet at the {goal} in town. {name} is still at the {start}, and knows that the "
        f"{goal} lies {blocks} blocks {side}, beyond {landmark}. Tell {name} how to walk there.",
        (f"From the {start}, walk {blocks} blocks {side} and pass {landmark} to reach the {goal}.",),
    )


def _way_back(draw: Draw) -> Row:
    (start, goal), landmark = draw.some(_PLACES, 2), draw.one(_LANDMARKS)
    blocks, side = NUMBER_WORDS[draw.number(2, 9)], draw.one(list(_OPPOSITE))
    back = _OPPOSITE[side]
    return Row(
        f"This morning a visitor walked from the {start} past {landmark} to the {goal}, {blocks} blocks {side}. "
        f"Describe the way back through town to the {start}.",
        (
            f"From the {goal}, walk {blocks} blocks {back} and pass {landmark} to reach the {start}.",
            f"Walk {blocks} blocks {back} to the {start}.",
        ),
    )


TASKS = (
    Task("town_directions", "town", "train", _directions),
    Task("town_bus_stop", "town", "train", _bus_stop),
    Task("town_meeting_point", "town", "train", _meeting_point),
    Task("town_way_back", "town", "test", _way_back),
)
