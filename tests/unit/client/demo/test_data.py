import json
from datetime import UTC, datetime

import pytest

from nearfirst.client.demo.data import bundled_data, sampled_data
from nearfirst.client.demo.sample import Sampling
from nearfirst.contracts.datasets import Dataset
from nearfirst.contracts.problems import InvalidDataset
from nearfirst.data.dataset import load_dataset

SAMPLING = Sampling(train_tasks=2, rows_per_task=3, test_rows_per_task=60, max_chars=1000, seed=0)


def dataset(digest: str, num_rows: int, num_tasks: int) -> Dataset:
    return Dataset(
        id="ds_1",
        name="n",
        digest=digest,
        format="examples",
        split=None,
        num_examples=num_rows,
        num_tasks=num_tasks,
        created_at=datetime.now(UTC),
    )


@pytest.fixture
def p3_file(tmp_path):
    """Three training tasks and a test task of ten rows each, in P3's layout."""
    rows = [
        {
            "task": task,
            "inputs_pretokenized": f"{task} question {row}\u2028?",
            "targets_pretokenized": f"answer {row}",
            "split": "test" if task == "d" else "train",
        }
        for task in "abcd"
        for row in range(10)
    ]
    path = tmp_path / "p3.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def test_a_sample_is_written_as_one_file_a_side_that_reads_back_the_same(p3_file, tmp_path):
    data = sampled_data(p3_file, SAMPLING, tmp_path / "work")
    assert (len(data.train), len(data.test)) == (6, 10)
    for upload, examples in zip(data.uploads, (data.train, data.test), strict=True):
        assert upload.split is None
        assert load_dataset(upload.path).examples == list(examples)


def test_the_report_names_the_file_without_its_folder_and_the_sampling(p3_file, tmp_path):
    data = sampled_data(p3_file, SAMPLING, tmp_path / "work")
    described = data.describe(dataset("sha256:a", 6, 2), dataset("sha256:b", 10, 1), num_rows_trained=4)
    assert described["name"] == "p3.jsonl"
    assert described["split_by"] == "field"
    assert described["sampling"]["rows_per_task"] == 3
    assert described["train"] == {"digest": "sha256:a", "num_rows": 6, "num_tasks": 2, "num_rows_trained": 4}
    assert str(tmp_path) not in json.dumps(described)
    assert data.title() == "p3.jsonl: trained on 6 rows of 2 tasks, tested on 10 rows of 1 unseen tasks"


def test_the_tokenizer_sees_no_test_rows(p3_file, tmp_path):
    data = sampled_data(p3_file, SAMPLING, tmp_path / "work")
    texts = list(data.texts())
    assert len(texts) == 6
    assert not any(text.startswith("d ") for text in texts)


def test_the_bundled_data_is_taken_whole_with_no_task_on_both_sides():
    data = bundled_data()
    train_tasks = {example.task for example in data.train}
    test_tasks = {example.task for example in data.test}
    assert len(train_tasks) >= 24
    assert len(test_tasks) >= 6
    assert not train_tasks & test_tasks
    assert [upload.split for upload in data.uploads] == ["train", "test"]
    assert data.sampling is None


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InvalidDataset, match="no such file"):
        sampled_data(tmp_path / "absent.jsonl", SAMPLING, tmp_path)
