"""Datasets as the API shows them."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import Field

from nearfirst.contracts.base import Contract


class DatasetFormat(StrEnum):
    """Instruction-data layouts that are read and recognised."""

    P3 = "p3"
    FLAN_MINI = "flan_mini"
    ALPACA = "alpaca"
    PROMPT_COMPLETION = "prompt_completion"
    MESSAGES = "messages"
    SHAREGPT = "sharegpt"
    ULTRACHAT = "ultrachat"
    NIV2 = "niv2"
    EXAMPLES = "examples"
    """Nearfirst's own canonical rows, as it stores them."""


class DatasetSource(Contract):
    """The JSON body of POST /datasets: where the server finds the file itself."""

    source: str
    """`hf://...`, `s3://...`, or a path under the server's allowed root."""
    format: DatasetFormat | None = None
    """None: recognised from the rows."""
    split: str | None = None
    """Keep the rows whose `split` field has this value (NIV2: the split's task list)."""
    name: str | None = Field(default=None, max_length=200)


class Dataset(Contract):
    """A registered dataset."""

    id: str
    name: str
    digest: str
    """sha256 of the canonical rows."""
    format: DatasetFormat
    """The format it was read from."""
    split: str | None
    num_examples: int
    num_tasks: int
    created_at: datetime


class TaskSize(Contract):
    """How many rows of a dataset a task has."""

    task: str
    """Empty: of the rows that name no task."""
    num_rows: int


class Turn(Contract):
    """One message of a conversation."""

    role: str
    """`system`, `user` or `assistant`."""
    content: str


class ExampleRow(Contract):
    """One example as GET /datasets/{id}/examples shows it."""

    index: int
    id: str
    task: str
    turns: list[Turn]
    references: list[str]
    """Every right answer, the training target first."""
    meta: dict[str, Any] = Field(default_factory=dict)
