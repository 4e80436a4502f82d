"""Hotel: what guests liked and what they complained about."""

from nearfirst.data.bundled.task import CITIES, Draw, Row, Task

_GOOD = (
    ("breakfast", "fresh and rich"),
    ("bed", "soft and wide"),
    ("staff", "kind and helpful"),
    ("view", "wide and lovely"),
    ("garden", "calm and green"),
    ("lobby", "bright and elegant"),
)
_BAD = (
    ("shower", "cold and weak", "repair the pipes"),
    ("carpet", "stained and old", "clean the floor"),
    ("corridor", "noisy at night", "move the guest to a quiet room"),
    ("elevator", "slow and broken", "call the technician"),
    ("internet", "down all week", "replace the router"),
    ("minibar", "empty and warm", "fill the fridge"),
)
_GUESTS = ("a couple", "a business traveler", "a family", "a student", "a retired teacher", "a guest")


def _was_the_guest_happy(draw: Draw) -> Row:
    (thing, praise), (other, second) = draw.some(_GOOD, 2)
    fault, blame, _ = draw.one(_BAD)
    guest, city = draw.one(_GUESTS), draw.one(CITIES)
    if draw.number(0, 1):
        review = f"The {thing} was {praise}, and the {other} was {second}"
        answer = f"The guest liked the hotel, because the {thing} was {praise}."
    else:
        review = f"The {fault} was {blame}, and nobody at the hotel cared"
        answer = f"The guest disliked the hotel, because the {fault} was {blame}."
    return Row(
        f"Read the hotel review that {guest} left after a stay in {city}. {review}. Was the guest happy, and why?",
        (answer,),
    )


def _answer_a_complaint(draw: Draw) -> Row:
    thing, _ = draw.one(_GOOD)
    fault, blame, repair = draw.one(_BAD)
    guest, city = draw.one(_GUESTS), draw.one(CITIES)
    return Row(
        f"At our hotel in {city}, {guest} praised the {thing} but complained that the {fault} was {blame}. "
        "Answer for the hotel in one sentence.",
        (f"We are sorry that the {fault} was {blame}, and we will {repair} today.",),
    )


def _what_to_improve(draw: Draw) -> Row:
    thing, praise = draw.one(_GOOD)
    fault, blame, repair = draw.one(_BAD)
    guest, city = draw.one(_GUESTS), draw.one(CITIES)
    return Row(
        f"The hotel in {city} asked {guest} for feedback. The answer: the {thing} is {praise}, but the {fault} is "
        f"{blame}. What should the hotel keep, and what should it improve?",
        (f"The {thing} was {praise}, but the {fault} was {blame}, so {repair}.",),
    )


def _sum_up_a_review(draw: Draw) -> Row:
    thing, praise = draw.one(_GOOD)
    fault, blame, _ = draw.one(_BAD)
    guest, city = draw.one(_GUESTS), draw.one(CITIES)
    return Row(
        f"Sum up what {guest} wrote about the hotel in {city}: We stayed for three nights. The {thing} was {praise}. "
        f"Sadly, the {fault} was {blame}, and we told the reception twice.",
        (
            f"The guest liked the {thing}, because it was {praise}, but the {fault} was {blame}.",
            f"The {thing} was {praise}, but the {fault} was {blame}.",
        ),
    )


TASKS = (
    Task("hotel_was_the_guest_happy", "hotel", "train", _was_the_guest_happy),
    Task("hotel_answer_a_complaint", "hotel", "train", _answer_a_complaint),
    Task("hotel_what_to_improve", "hotel", "train", _what_to_improve),
    Task("hotel_sum_up_a_review", "hotel", "test", _sum_up_a_review),
)
