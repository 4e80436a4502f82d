"""The bundled data's tasks: eight domains with a test task each, and tasks of far domains."""

from nearfirst.data.bundled.domains import (
    animals,
    computing,
    cooking,
    counting,
    football,
    hotel,
    music,
    notation,
    town,
    weather,
)
from nearfirst.data.bundled.task import Task

TASKS: tuple[Task, ...] = tuple(
    task
    for module in (weather, cooking, animals, counting, town, hotel, music, football, computing, notation)
    for task in module.TASKS
)
"""All tasks, in the order of the file."""
