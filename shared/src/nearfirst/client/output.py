"""What commands print for machines: one JSON document on stdout; everything else goes to stderr."""

import json
from typing import Annotated, Any

import typer
from pydantic import BaseModel

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document, and nothing else, on stdout.")]


def print_json(value: Any) -> None:
    """Print a value as one JSON document.

    Args:
        value: a model, or lists and dicts of models and of what JSON has.
    """
    typer.echo(json.dumps(value, indent=2, default=_of_model))


def _of_model(value: object) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__name__} has no JSON")
