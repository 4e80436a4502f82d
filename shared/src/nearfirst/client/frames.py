"""Rows of the contracts as pandas frames. pandas is optional: the extra `pandas`."""

from collections.abc import Iterable, Iterator
from enum import Enum
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from nearfirst.client.errors import NotInstalled

if TYPE_CHECKING:
    from pandas import DataFrame


def to_frame(rows: Iterable[BaseModel], model: type[BaseModel]) -> "DataFrame":
    """A line for each row, a column for each field.

    Fields that are models themselves are spread over columns (`progress.done`); lists and dicts are kept in their
    cells, enumerations are their values.

    Args:
        rows: of `model`, or of models derived from it.
        model: says the columns where there is no row.

    Raises:
        NotInstalled: pandas is missing.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise NotInstalled("to_pandas() needs pandas: `pip install 'nearfirst[pandas]'`") from error
    lines = [flat(row) for row in rows]
    columns = list(dict.fromkeys(name for line in lines for name in line)) or list(model.model_fields)
    return pd.DataFrame(lines, columns=columns)


def flat(row: BaseModel) -> dict[str, Any]:
    """A model's fields by their paths: those of models below it are joined by dots."""
    return dict(_fields(row, ""))


def _fields(row: BaseModel, before: str) -> Iterator[tuple[str, Any]]:
    for name in type(row).model_fields:
        value = getattr(row, name)
        if isinstance(value, BaseModel):
            yield from _fields(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", _plain(value)


def _plain(value: Any) -> Any:
    """A value without classes of ours."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value
