"""Weather: what a forecast means for clothes and plans."""

from nearfirst.data.bundled.task import CITIES, DAYS, NAMES, Draw, Row, Task

_FORECASTS = (
    ("heavy rain", "a raincoat and rubber boots", "the streets will be wet", "move it indoors"),
    ("snow and ice", "a thick coat and warm gloves", "the paths will be frozen", "wait for the thaw"),
    ("bright sunshine", "a sun hat and light clothes", "the sun will be strong", "start early in the morning"),
    ("strong storms", "a windproof jacket and firm shoes", "the gusts will be dangerous", "stay at home"),
    ("dense fog", "a bright jacket and a warm scarf", "drivers will see very little", "take the train instead"),
    ("light drizzle", "a hooded jacket and dry socks", "the air will be damp", "bring an umbrella"),
    ("a heat wave", "a linen shirt and sandals", "the afternoon will be very hot", "look for shade and water"),
    ("hail showers", "a padded jacket and a cap", "hailstones will fall in the afternoon", "go before noon"),
)
_OUTINGS = ("picnic", "bicycle tour", "garden party", "boat trip", "long hike", "street market")


def _what_to_wear(draw: Draw) -> Row:
    sky, clothes, reason, _ = draw.one(_FORECASTS)
    name, city, day, degrees = draw.one(NAMES), draw.one(CITIES), draw.one(DAYS), draw.number(-5, 35)
    return Row(
        f"The weather forecast for {city} on {day} says {sky} at {degrees} degrees. {name} has to walk to work. "
        f"What clothes should {name} wear outside?",
        (f"{name} should wear {clothes}, because {reason}.",),
    )


def _change_of_plans(draw: Draw) -> Row:
    sky, _, reason, plan = draw.one(_FORECASTS)
    name, city, day, outing = draw.one(NAMES), draw.one(CITIES), draw.one(DAYS), draw.one(_OUTINGS)
    return Row(
        f"{name} planned a {outing} near {city} for {day}, but the weather forecast now promises {sky}. "
        "Give one short piece of advice and its reason.",
        (f"{name} should {plan}, because {reason}.",),
    )


def _window_view(draw: Draw) -> Row:
    sky, clothes, reason, _ = draw.one(_FORECASTS)
    (name, friend), city, day = draw.some(NAMES, 2), draw.one(CITIES), draw.one(DAYS)
    return Row(
        f"On {day} morning {name} looks out of the window in {city}, sees {sky} and calls {friend}, who is about to "
        f"leave for a trip. What should {friend} take along in this weather?",
        (f"{friend} should take {clothes}, because {reason}.",),
    )


def _packing_note(draw: Draw) -> Row:
    sky, clothes, reason, _ = draw.one(_FORECASTS)
    name, city, day, degrees = draw.one(NAMES), draw.one(CITIES), draw.one(DAYS), draw.number(-5, 35)
    return Row(
        f"Help {name} to pack the suitcase. The trip to {city} begins on {day}, and the forecast there is {sky}, "
        f"around {degrees} degrees. Write the packing note.",
        (f"{name} should pack {clothes}, because {reason}.", f"Pack {clothes}."),
    )


TASKS = (
    Task("weather_what_to_wear", "weather", "train", _what_to_wear),
    Task("weather_change_of_plans", "weather", "train", _change_of_plans),
    Task("weather_window_view", "weather", "train", _window_view),
    Task("weather_packing_note", "weather", "test", _packing_note),
)
