"""Tables that the client answers with: lists and listings that also are pandas frames and show themselves."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Generic, TypeVar

from pydantic import BaseModel

from nearfirst.client.display import html_table
from nearfirst.client.frames import flat, to_frame

if TYPE_CHECKING:
    from pandas import DataFrame

RowT = TypeVar("RowT", bound=BaseModel)

NUM_SHOWN = 10
"""Rows that a notebook shows of a table."""


class Rows(list[RowT]):
    """A list of rows of one kind."""

    def __init__(self, rows: Iterable[RowT], model: type[BaseModel]) -> None:
        super().__init__(rows)
        self._model = model

    def to_pandas(self) -> "DataFrame":
        """The rows as a frame: a line for each, a column for each field (`nearfirst.client.frames.to_frame`).

        Raises:
            NotInstalled: pandas is missing.
        """
        return to_frame(self, self._model)

    def __repr__(self) -> str:
        return f"<{len(self):,} rows of {self._model.__name__}>"

    def _repr_html_(self) -> str:
        shown = [flat(row) for row in islice(self, NUM_SHOWN)]
        columns = list(dict.fromkeys(name for line in shown for name in line)) or list(self._model.model_fields)
        note = f"{NUM_SHOWN} of {len(self):,} rows" if len(self) > NUM_SHOWN else f"{len(self):,} rows"
        return html_table(columns, [[line.get(name) for name in columns] for line in shown], note)


class Listing(Generic[RowT]):
    """An iterator over a list of the server's, fetched page by page while it is gone through, once."""

    def __init__(self, rows: Iterator[RowT], model: type[BaseModel]) -> None:
        self._rows = rows
        self._model = model

    def __iter__(self) -> "Listing[RowT]":
        return self

    def __next__(self) -> RowT:
        return next(self._rows)

    def all(self) -> Rows[RowT]:
        """All that is left of it, as a list."""
        return Rows(self, self._model)

    def to_pandas(self) -> "DataFrame":
        """All that is left of it, as `Rows.to_pandas`."""
        return self.all().to_pandas()

    def __repr__(self) -> str:
        return f"<listing of {self._model.__name__}; go through it, or call .all() or .to_pandas()>"
