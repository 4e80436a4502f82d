"""Which rows the demo trains and tests on, and how they get to the server."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nearfirst.client.api import Client
from nearfirst.client.demo.sample import Sampling, draw_sample
from nearfirst.contracts.arrangements import TextRule
from nearfirst.contracts.datasets import Dataset
from nearfirst.data.bundled import bundled_path
from nearfirst.data.dataset import load_dataset, write_canonical
from nearfirst.data.example import Example, embedded_text


@dataclass(frozen=True)
class Upload:
    """A dataset as it is registered."""

    path: Path
    split: str | None
    """Which of the file's splits; None: all of it."""
    name: str


@dataclass(frozen=True)
class DemoData:
    """Training rows, test rows of other tasks, and the files that they are registered from."""

    name: str
    train: tuple[Example, ...]
    test: tuple[Example, ...]
    uploads: tuple[Upload, Upload]
    """Train and test."""
    split_by: str
    sampling: Sampling | None
    """None: nothing was left out."""

    def texts(self) -> Iterator[str]:
        """What the tokenizer is trained on: the training rows' text."""
        return (embedded_text(example, TextRule.ALL_TURNS) for example in self.train)

    def describe(self, train: Dataset, test: Dataset, num_rows_trained: int) -> dict[str, Any]:
        """The report's account of the data."""
        return {
            "name": self.name,
            "split_by": self.split_by,
            "sampling": None if self.sampling is None else asdict(self.sampling),
            "train": _summary(train) | {"num_rows_trained": num_rows_trained},
            "test": _summary(test),
        }

    def title(self) -> str:
        """The data in a line of the figure."""
        tasks = {example.task for example in self.train}
        test_tasks = {example.task for example in self.test}
        unseen = (
            "held-out rows" if self.split_by == "rows" else f"{len(self.test)} rows of {len(test_tasks)} unseen tasks"
        )
        return f"{self.name}: trained on {len(self.train):,} rows of {len(tasks)} tasks, tested on {unseen}"


def bundled_data() -> DemoData:
    """The dataset that Nearfirst carries, whole."""
    path = bundled_path()
    examples = load_dataset(path).examples
    return DemoData(
        name="bundled data",
        train=tuple(example for example in examples if example.meta["split"] == "train"),
        test=tuple(example for example in examples if example.meta["split"] == "test"),
        uploads=(Upload(path, "train", "bundled train"), Upload(path, "test", "bundled test")),
        split_by="field",
        sampling=None,
    )


def sampled_data(path: Path, sampling: Sampling, folder: Path) -> DemoData:
    """A sample of a user's dataset, written to `folder` as a file for training and one for testing.

    Raises:
        InvalidDataset: `path` can't be read.
        InvalidInput: nothing is left for training or for testing.
    """
    sample = draw_sample(load_dataset(path).examples, sampling)
    folder.mkdir(parents=True, exist_ok=True)
    uploads = []
    for split, examples in (("train", sample.train), ("test", sample.test)):
        file = folder / f"{split}.jsonl"
        with file.open("wb") as stream:
            write_canonical(examples, stream)
        uploads.append(Upload(file, None, f"{path.name} {split} sample"))
    return DemoData(path.name, sample.train, sample.test, (uploads[0], uploads[1]), sample.split_by, sampling)


def register(client: Client, data: DemoData) -> tuple[Dataset, Dataset]:
    """Upload the training and the test rows."""
    train, test = (
        client.register_dataset(upload.path, split=upload.split, name=upload.name) for upload in data.uploads
    )
    return train, test


def _summary(dataset: Dataset) -> dict[str, Any]:
    return {"digest": dataset.digest, "num_rows": dataset.num_examples, "num_tasks": dataset.num_tasks}
