"""What docs/keeping-the-order.md says of transformers' Trainer, seen on a tiny model: which rows reach it, and when."""

import random
import re
from pathlib import Path

import pytest

from nearfirst.contracts.exports import ExportFormat
from nearfirst.data.export_manifest import PAGE, order_note

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
accelerate = pytest.importorskip("accelerate")

ROOT = Path(__file__).parents[3]
NUM_ROWS = 22
ORDER = random.Random(0).sample(range(NUM_ROWS), NUM_ROWS)
KEEPS = order_note(ExportFormat.MESSAGES).settings["transformers"]


class Rows(torch.utils.data.Dataset):
    """The arranged rows; the first token of each tells which row of the dataset it is."""

    def __len__(self):
        return NUM_ROWS

    def __getitem__(self, position):
        row = ORDER[position]
        ids = torch.tensor([row] + [NUM_ROWS] * (1 + row % 5))
        return {"input_ids": ids, "labels": ids}


def collate(rows):
    padded = torch.nn.utils.rnn.pad_sequence([row["input_ids"] for row in rows], batch_first=True)
    return {"input_ids": padded, "labels": padded}


@pytest.fixture
def consumed(tmp_path):
    """Settings of TrainingArguments -> the rows of each forward pass while training, in order."""

    def train(**given):
        config = transformers.LlamaConfig(
            vocab_size=NUM_ROWS + 1,
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
        )
        model = transformers.LlamaForCausalLM(config)
        seen = []
        model.register_forward_pre_hook(
            lambda module, args, kwargs: seen.append(kwargs["input_ids"][:, 0].tolist()), with_kwargs=True
        )
        arguments = {
            "output_dir": str(tmp_path),
            "use_cpu": True,
            "per_device_train_batch_size": 4,
            "num_train_epochs": 1,
            "save_strategy": "no",
            "report_to": [],
            "disable_tqdm": True,
            "dataloader_pin_memory": False,
        }
        trainer = transformers.Trainer(
            model=model,
            args=transformers.TrainingArguments(**arguments | given),
            train_dataset=Rows(),
            data_collator=collate,
        )
        trainer.train()
        return seen

    return train


def batches(rows, size):
    return [rows[start : start + size] for start in range(0, len(rows), size)]


@pytest.mark.parametrize("more", [{}, {"gradient_accumulation_steps": 2}], ids=["plain", "accumulated"])
def test_the_documented_settings_feed_the_rows_in_the_files_order(consumed, more):
    assert consumed(**KEEPS, **more) == batches(ORDER, 4)


def test_each_epoch_has_the_same_order(consumed):
    assert consumed(**KEEPS, num_train_epochs=2) == batches(ORDER, 4) * 2


@pytest.mark.parametrize("given", [{}, {"train_sampling_strategy": "group_by_length"}], ids=["default", "by length"])
def test_other_sampling_strategies_feed_the_same_rows_in_another_order(consumed, given):
    rows = [row for batch in consumed(**given) for row in batch]
    assert sorted(rows) == sorted(ORDER)
    assert rows != ORDER


def test_dropping_the_last_batch_leaves_out_the_last_rows(consumed):
    assert consumed(**KEEPS, dataloader_drop_last=True) == batches(ORDER, 4)[:-1]


@pytest.mark.parametrize("split_batches", [False, True])
def test_with_two_processes_a_step_has_its_rows_and_the_last_one_rows_from_the_start_as_well(split_batches):
    size = 8 if split_batches else 4
    sampler = torch.utils.data.BatchSampler(torch.utils.data.SequentialSampler(Rows()), size, drop_last=False)
    shards = [
        list(accelerate.data_loader.BatchSamplerShard(sampler, 2, rank, split_batches=split_batches)) for rank in (0, 1)
    ]
    steps = [first + second for first, second in zip(*shards, strict=True)]
    assert steps == [list(range(0, 8)), list(range(8, 16)), [*range(16, 22), 0, 1]]


def test_the_page_explains_each_setting_that_an_export_names():
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    named = {
        setting for format in ExportFormat for options in order_note(format).settings.values() for setting in options
    }
    assert {setting for setting in named if not re.search(rf"`?\b{setting}\b", page)} == set()
