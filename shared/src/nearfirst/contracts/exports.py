"""An arranged dataset as a file for other trainers, and what is needed to train on it in its order."""

from enum import StrEnum

from pydantic import Field, JsonValue

from nearfirst.contracts.base import Contract


class ExportFormat(StrEnum):
    """Layouts that trainers read. Each is read again as the `DatasetFormat` of the same name."""

    MESSAGES = "messages"
    """`{"messages": [{"role", "content"}]}`: OpenAI, TRL, axolotl, open-instruct. Holds every conversation."""
    ALPACA = "alpaca"
    """`{"instruction", "input", "output"}`, and `system` and `history` where the data has them: LLaMA-Factory."""
    SHAREGPT = "sharegpt"
    """`{"conversations": [{"from", "value"}]}` of human, gpt and system: LLaMA-Factory, axolotl."""
    PROMPT_COMPLETION = "prompt_completion"
    """`{"prompt", "completion"}`: TRL. Texts; lists of messages when the data has more than single exchanges."""


class ExportFileType(StrEnum):
    """How the rows are kept."""

    JSONL = "jsonl"
    PARQUET = "parquet"
    """Carries the columns' types, which loaders otherwise guess from the first rows."""


class OrderNote(Contract):
    """What keeps a trainer on the file's order."""

    text: str
    page: str
    """Where the traps of each trainer are described."""
    settings: dict[str, dict[str, JsonValue]]
    """Trainer -> its options, by the names that its configuration has. Only trainers that read the file's format."""


class ExportManifest(Contract):
    """What an exported file holds: GET /arrangements/{id}/export/manifest, and FILE.manifest.json beside the file."""

    file: str
    """The file's name."""
    file_digest: str
    """sha256 of its bytes: `sha256:<hex>`."""
    size_bytes: int
    format: ExportFormat
    file_type: ExportFileType
    columns: list[str]
    """Of every row. `position` (from 0), `id` and `task` are for people and checks; trainers drop them."""
    num_rows: int = Field(ge=1)
    arrangement_digest: str
    """Names the order: recomputed from `dataset_digest` and the rows' ids (contracts/receipts.py)."""
    dataset_digest: str
    """The dataset that was arranged."""
    note: OrderNote
