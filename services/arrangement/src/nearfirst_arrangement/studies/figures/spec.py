"""What a figure shows: the JSON beside every figure, from which it can be drawn again."""

from typing import Literal

from pydantic import Field, model_validator

from nearfirst.contracts.base import Contract
from nearfirst.contracts.evaluations import MetricName


class Panel(Contract):
    """One pair of axes: a metric of some arrangements over optimizer steps."""

    study: str
    """Name of the study that it is drawn from."""
    metric: MetricName
    title: str
    show: Literal["mean", "difference"] = "mean"
    """mean: the arrangements' curves with a band from the lowest to the highest seed; difference: each one minus the
    baseline, with pointwise 95 % intervals."""
    arrangements: list[str] | None = None
    """Labels; None: all."""
    task: str | None = None
    """Only its test examples; None: all."""
    mark_drops: bool = False
    """Mark where a curve drops suddenly (statistics/change_points.py)."""
    colours: Literal["distinct", "sequential"] = "distinct"
    """sequential: from dark to light, for arrangements that have an order of their own: rounds."""


class FigureSpec(Contract):
    """A whole figure."""

    name: str
    """`figure3`; files are named by it."""
    title: str | None = None
    panels: list[Panel] = Field(min_length=1, max_length=24)
    width: Literal["column", "page"] = "column"
    """3.3 or 6.9 inches: a column of a paper, or both. In a column panels stand one above the other."""
    columns: int | None = Field(default=None, ge=1, le=4)
    """Panels in a row; None: 1 in a column; on a page all up to 3, and four two by two."""
    x: Literal["linear", "log"] = "linear"
    """log: the first steps at length; linear from step 0 to the first measured one."""
    max_step: int | None = Field(default=None, ge=1)
    """Where the axis of steps ends; None: at the last measured one."""
    share_y: bool = False
    """One range of values for all panels."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Of intervals and permutation tests."""

    @model_validator(mode="after")
    def _columns_fit(self) -> "FigureSpec":
        if self.width == "column" and self.columns is not None and self.columns > 2:
            raise ValueError(f"columns: at most 2 fit into a column of 3.3 inches, got {self.columns}")
        return self

    @property
    def num_columns(self) -> int:
        """Panels in a row."""
        on_page = 2 if len(self.panels) == 4 else 3
        most = self.columns or (1 if self.width == "column" else on_page)
        return min(most, len(self.panels))
