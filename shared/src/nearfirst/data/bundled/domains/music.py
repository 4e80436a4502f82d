"""Music: instruments, their families and how they sound."""

from nearfirst.data.bundled.task import NAMES, Draw, Row, Task

_INSTRUMENTS = (
    ("violin", "string family", "drawing a bow over the strings", "a singing sound"),
    ("cello", "string family", "bowing while sitting down", "a dark and warm sound"),
    ("harp", "string family", "plucking with both hands", "a rippling sound"),
    ("flute", "woodwind family", "blowing across the mouthpiece", "an airy sound"),
    ("oboe", "woodwind family", "blowing through a double reed", "a nasal and clear sound"),
    ("clarinet", "woodwind family", "blowing on a single reed", "a round and mellow sound"),
    ("trumpet", "brass family", "buzzing the lips into the cup", "a brilliant sound"),
    ("trombone", "brass family", "moving a long slide", "a solemn sound"),
    ("tuba", "brass family", "breathing deeply into the horn", "a deep and heavy sound"),
    ("timpani", "percussion family", "striking the skins with mallets", "a rolling thunder"),
    ("xylophone", "percussion family", "hitting wooden bars", "a dry and bright sound"),
)
_COMPOSERS = ("Brahms", "Ravel", "Dvorak", "Haydn", "Sibelius", "Smetana", "Vivaldi")


def _family(draw: Draw) -> Row:
    instrument, family, playing, _ = draw.one(_INSTRUMENTS)
    name, composer = draw.one(NAMES), draw.one(_COMPOSERS)
    return Row(
        f"In the orchestra, {name} practices the {instrument} part of a symphony by {composer}. "
        "To which family does the instrument belong, and how is it played?",
        (f"The {instrument} belongs to the {family} and is played by {playing}.",),
    )


def _sound(draw: Draw) -> Row:
    instrument, family, _, sound = draw.one(_INSTRUMENTS)
    name, composer = draw.one(NAMES), draw.one(_COMPOSERS)
    return Row(
        f"{name} listens to a concert with music by {composer} and hears an instrument of the {family} with {sound}. "
        "Which instrument of the orchestra may it be?",
        (f"The instrument is the {instrument} of the {family}, with {sound}.",),
    )


def _first_lesson(draw: Draw) -> Row:
    instrument, _, playing, sound = draw.one(_INSTRUMENTS)
    name, composer = draw.one(NAMES), draw.one(_COMPOSERS)
    return Row(
        f"After a concert with music by {composer}, {name} wants to learn the {instrument}. In the first lesson the "
        "teacher explains the instrument. How is it played, and how does it sound?",
        (f"The {instrument} is played by {playing}, with {sound}.",),
    )


def _programme_note(draw: Draw) -> Row:
    instrument, family, playing, sound = draw.one(_INSTRUMENTS)
    name, composer = draw.one(NAMES), draw.one(_COMPOSERS)
    return Row(
        f"Tonight {name} plays the {instrument} solo in a concerto by {composer}. Write a line for the concert "
        "programme that introduces the instrument to the audience.",
        (
            f"The {instrument} belongs to the {family} and is played by {playing}, with {sound}.",
            f"The {instrument} of the {family} has {sound}.",
        ),
    )


TASKS = (
    Task("music_family", "music", "train", _family),
    Task("music_sound", "music", "train", _sound),
    Task("music_first_lesson", "music", "train", _first_lesson),
    Task("music_programme_note", "music", "test", _programme_note),
)
