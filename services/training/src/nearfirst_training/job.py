"""What one training process is asked to do: a JSON file that the worker or the command line writes."""

from pathlib import Path

from pydantic import Field, ValidationError

from nearfirst.contracts.base import Contract
from nearfirst.contracts.datasets import DatasetFormat
from nearfirst.contracts.nodes import NodePart
from nearfirst.contracts.problems import InvalidInput, invalid_input_from_validation
from nearfirst.contracts.receipts import Receipt
from nearfirst.contracts.training import Checkpoint, TrainSettings


class TrainingJob(Contract):
    """Settings plus files. Paths are absolute, or relative to the process's working directory."""

    settings: TrainSettings
    train_examples: str
    """A dataset file or folder; Nearfirst's canonical rows are one of the formats."""
    train_format: DatasetFormat | None = None
    """None: recognised from the rows."""
    train_split: str | None = None
    dataset_digest: str | None = None
    """What the training rows must hash to; None accepts what is there."""
    order: str | None = None
    """order.jsonl of an arrangement; None trains on the dataset's own order."""
    arrangement_digest: str | None = None
    """What the order must hash to; None accepts an order that is whole in itself."""
    test_examples: str | None = None
    test_format: DatasetFormat | None = None
    test_split: str | None = None
    test_tasks: list[str] | None = Field(default=None, min_length=1)
    """Measure these tasks only; None measures all."""
    evaluate_every: int = Field(default=10, ge=1)
    """Steps between two measurements of the test loss."""
    out: str
    """Folder of everything that the job writes."""
    node: NodePart | None = None
    """Which machine's ranks are started; None: the job is on one machine."""
    resume: bool = False
    """Go on from the newest state checkpoint in `out`; start anew when there is none."""

    @property
    def num_local_ranks(self) -> int:
        """Ranks on this machine."""
        return self.settings.num_processes if self.node is None else self.node.num_ranks

    @property
    def num_local_gpus(self) -> int:
        """GPUs of this machine that the job uses."""
        return self.num_local_ranks if self.settings.gpus else 0


class TrainResult(Contract):
    """What a finished training run says of itself."""

    steps: int
    num_tokens: int
    """Real tokens that this process trained on, pads not counted."""
    resumed_from: int | None
    """Step of the state that this process went on from; None: it began at the beginning."""
    train_loss: float | None
    """Of the last step with a scored token."""
    test_loss: float | None
    """After the last step; None without test examples."""
    receipt: Receipt
    checkpoints: list[Checkpoint]
    """Every complete checkpoint in the folder, by step."""


def read_job(path: Path) -> TrainingJob:
    """Read a job file.

    Raises:
        InvalidInput: the file is absent, or a field is missing, unknown or wrong; the detail names it.
    """
    try:
        return TrainingJob.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InvalidInput(f"job file {path} can't be read: {error.strerror}") from error
    except ValidationError as error:
        raise invalid_input_from_validation(error, f"job file {path}") from error
