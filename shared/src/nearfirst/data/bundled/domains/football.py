"""Football: who won a match, and by how much."""

from nearfirst.data.bundled.task import CITIES, DAYS, NUMBER_WORDS, Draw, Row, Task

_TEAMS = ("Tigers", "Falcons", "Rovers", "Wanderers", "Sharks", "Wolves", "Comets", "Knights")
_MOMENTS = (
    "a late penalty",
    "a long free kick",
    "a header after a corner",
    "a quick counterattack",
    "a lucky deflection",
)


def _score(draw: Draw) -> tuple[str, str, str]:
    """Goals of the winner and the loser, and the margin, in words."""
    lost = draw.number(0, 3)
    margin = draw.number(1, 4)
    goals = "goal" if margin == 1 else "goals"
    return NUMBER_WORDS[lost + margin], NUMBER_WORDS[lost], f"{NUMBER_WORDS[margin]} {goals}"


def _who_won(draw: Draw) -> Row:
    (winner, loser), (more, fewer, margin) = draw.some(_TEAMS, 2), _score(draw)
    city, day = draw.one(CITIES), draw.one(DAYS)
    return Row(
        f"The football match in {city} on {day}: the {winner} scored {more} times, and the {loser} scored {fewer} "
        "times. Which team won the match, and by how many goals?",
        (f"The {winner} beat the {loser} by {margin}.",),
    )


def _deciding_moment(draw: Draw) -> Row:
    (winner, loser), moment = draw.some(_TEAMS, 2), draw.one(_MOMENTS)
    city, minute = draw.one(CITIES), draw.number(46, 90)
    return Row(
        f"It was a close football match between the {loser} and the {winner} in {city} until, in minute {minute}, the "
        f"{winner} scored with {moment}. How was the match decided?",
        (f"The {winner} beat the {loser} with {moment}.",),
    )


def _radio_report(draw: Draw) -> Row:
    (winner, loser), (more, fewer, margin) = draw.some(_TEAMS, 2), _score(draw)
    day, moment = draw.one(DAYS), draw.one(_MOMENTS)
    return Row(
        f"Radio report from the football match on {day}: {more} to {fewer} for the {winner}, and the last goal came "
        f"from {moment}. The fans of the {loser} went home early. Give the result in a sentence.",
        (f"The {winner} beat the {loser} by {margin} with {moment}.",),
    )


def _headline(draw: Draw) -> Row:
    (winner, loser), (more, fewer, margin) = draw.some(_TEAMS, 2), _score(draw)
    city, moment = draw.one(CITIES), draw.one(_MOMENTS)
    return Row(
        f"Write a headline for the sports page. At home in {city}, the {loser} lost the football match against the "
        f"{winner}, {fewer} to {more}. The {winner} opened the scoring with {moment}.",
        (f"The {winner} beat the {loser} by {margin} with {moment}.", f"{winner} beat {loser} by {margin}."),
    )


TASKS = (
    Task("football_who_won", "football", "train", _who_won),
    Task("football_deciding_moment", "football", "train", _deciding_moment),
    Task("football_radio_report", "football", "train", _radio_report),
    Task("football_headline", "football", "test", _headline),
)
