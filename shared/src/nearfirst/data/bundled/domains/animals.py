"""Animals: where they live and what they eat."""

from nearfirst.data.bundled.task import NAMES, Draw, Row, Task

_ANIMALS = (
    ("otter", "mammal", "webbed feet", "clear rivers", "fish and crabs"),
    ("camel", "mammal", "a large hump", "dry deserts", "thorny shrubs"),
    ("penguin", "bird", "short stiff wings", "icy coasts", "krill and small fish"),
    ("owl", "bird", "huge round eyes", "quiet forests", "mice and voles"),
    ("python", "reptile", "a patterned skin", "warm jungles", "rats and birds"),
    ("tortoise", "reptile", "a heavy shell", "dry grasslands", "leaves and grass"),
    ("tree frog", "amphibian", "sticky toes", "humid rainforests", "flies and beetles"),
    ("squirrel", "mammal", "a bushy tail", "old oak woods", "nuts and acorns"),
    ("pelican", "bird", "a deep throat pouch", "sunny lagoons", "fish and shrimp"),
    ("hedgehog", "mammal", "sharp spines", "leafy hedges", "worms and slugs"),
    ("salamander", "amphibian", "bright yellow spots", "damp valleys", "spiders and snails"),
    ("mountain goat", "mammal", "strong curved horns", "steep cliffs", "moss and herbs"),
)
_VISITS = ("the zoo", "the nature museum", "the safari park", "the wildlife park", "the aquarium")


def _habitat(draw: Draw) -> Row:
    animal, kind, _, home, food = draw.one(_ANIMALS)
    name, visit = draw.one(NAMES), draw.one(_VISITS)
    return Row(
        f"On a visit to {visit}, {name} sees a wild {animal} for the first time and asks about this {kind}. "
        "Where does the animal live, and what does it eat?",
        (f"The {animal} lives in {home} and eats {food}.",),
    )


def _riddle(draw: Draw) -> Row:
    animal, kind, feature, home, food = draw.one(_ANIMALS)
    name, visit = draw.one(NAMES), draw.one(_VISITS)
    return Row(
        f"A riddle that {name} heard at {visit}: I am a {kind} with {feature}. I live in {home} and eat {food}. "
        "Which animal am I?",
        (f"The animal is the {animal}, a {kind} with {feature}.",),
    )


def _feeding_time(draw: Draw) -> Row:
    animal, kind, feature, home, food = draw.one(_ANIMALS)
    name, visit = draw.one(NAMES), draw.one(_VISITS)
    return Row(
        f"It is feeding time at {visit}. The keeper shows {name} the {animal}, a {kind} with {feature}, and prepares "
        "its meal. What does the animal eat, and where does it find this food in the wild?",
        (f"The {animal} eats {food} and lives in {home}.",),
    )


def _field_guide(draw: Draw) -> Row:
    animal, kind, feature, home, food = draw.one(_ANIMALS)
    name, visit = draw.one(NAMES), draw.one(_VISITS)
    return Row(
        f"{name} writes a children's guide to wildlife after a visit to {visit}. Complete the page about the {animal}, "
        f"an animal with {feature}, in one line.",
        (
            f"The {animal} is a {kind} that lives in {home} and eats {food}.",
            f"The {animal} lives in {home} and eats {food}.",
        ),
    )


TASKS = (
    Task("animals_habitat", "animals", "train", _habitat),
    Task("animals_riddle", "animals", "train", _riddle),
    Task("animals_feeding_time", "animals", "train", _feeding_time),
    Task("animals_field_guide", "animals", "test", _field_guide),
)
