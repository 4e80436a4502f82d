"""`nearfirst export` as a user runs it: an order and its dataset in, the arranged file and its manifest out."""

import json

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from nearfirst.contracts.problems import InvalidDataset, InvalidInput, NearfirstError, OrderMismatch
from nearfirst.data.dataset import load_dataset
from nearfirst.data.order import order_table, write_order
from nearfirst_arrangement.export_cli import export as export_command

INDEX = [3, 1, 5, 0]


@pytest.fixture
def files(tmp_path):
    """8 P3 rows, the last two of another split; an order of four of the others, with its manifest."""
    rows = [
        {
            "id": f"r{n}",
            "inputs_pretokenized": f"q{n}",
            "targets_pretokenized": f"a{n}",
            "split": "train" if n < 6 else "test",
        }
        for n in range(8)
    ]
    (tmp_path / "pool.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    train = load_dataset(tmp_path / "pool.jsonl", split="train")
    ids, tasks = [e.id for e in train.examples], [e.task for e in train.examples]
    table = order_table(train.digest, np.array(INDEX), ids=ids, tasks=tasks)
    for name in ("order.jsonl", "order.parquet"):
        write_order(tmp_path / name, table)
    (tmp_path / "order.jsonl.manifest.json").write_text(json.dumps({"digest": table.digest}))
    return tmp_path


@pytest.fixture
def run(files):
    """Options -> the command's result; a user's error is raised as it is."""
    app = typer.Typer()
    app.command()(export_command)

    def invoke(*options, order="order.jsonl", out="arranged.jsonl", format="messages", split="train"):
        arguments = [files / order, "--train", files / "pool.jsonl", "--format", format, "--out", files / out]
        arguments += ["--train-split", split] if split else []
        result = CliRunner().invoke(app, [*map(str, arguments), *options])
        if isinstance(result.exception, NearfirstError):
            raise result.exception
        return result

    return invoke


@pytest.mark.parametrize("order", ["order.jsonl", "order.parquet"])
@pytest.mark.parametrize("out", ["arranged.jsonl", "arranged.parquet"])
def test_writes_the_rows_in_the_orders_order_and_says_how_to_keep_it(run, files, order, out):
    result = run(order=order, out=out)
    assert result.exit_code == 0, result.output
    found = load_dataset(files / out)
    assert [e.id for e in found.examples] == [f"r{row}" for row in INDEX]
    assert [e.turns[0].content for e in found.examples] == [f"q{row}" for row in INDEX]
    manifest = json.loads((files / f"{out}.manifest.json").read_text())
    assert manifest["num_rows"] == 4
    for said in ("train_sampling_strategy", "disable_shuffling", "curriculum_sampling", "docs/keeping-the-order.md"):
        assert said in result.output


def test_json_is_the_manifest_alone(run, files):
    told = json.loads(run("--json").stdout)
    assert told == json.loads((files / "arranged.jsonl.manifest.json").read_text())


def test_an_order_that_was_cut_short_is_refused_by_the_manifest_beside_it(run, files):
    order = files / "order.jsonl"
    order.write_text("".join(order.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(OrderMismatch, match="the rows end here"):
        run()
    (files / "order.jsonl.manifest.json").unlink()
    assert run().exit_code == 0


def test_an_order_of_other_rows_is_refused_at_the_first_one_that_differs(run, files):
    with pytest.raises(OrderMismatch, match=r"row 0.*another dataset"):
        run(split=None)
    assert not (files / "arranged.jsonl").exists()


def test_a_changed_row_is_found_where_it_stands(run, files):
    order = files / "order.jsonl"
    order.write_text(order.read_text().replace('"r5"', '"r2"'))
    with pytest.raises(OrderMismatch, match=r"row 2.*'r2' where the dataset has 'r5'"):
        run()


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"order": "absent.jsonl"}, InvalidInput, "order: there is no file"),
        ({"out": "absent/arranged.jsonl"}, InvalidInput, "out: got .* in a folder that exists"),
        ({"out": "arranged.csv"}, InvalidInput, "wanted a name that ends in .jsonl or .parquet"),
        ({"out": "."}, InvalidInput, "wanted a name that ends in"),
        ({"out": "pool.jsonl"}, InvalidInput, "would replace"),
        ({"out": "order.jsonl"}, InvalidInput, "would replace"),
        ({"split": "validation"}, InvalidDataset, "no row has the split 'validation'"),
    ],
)
def test_what_cannot_be_exported_is_refused_and_nothing_is_replaced(run, files, options, error, said):
    before = {path.name: path.read_bytes() for path in files.iterdir()}
    with pytest.raises(error, match=said):
        run(**options)
    assert {path.name: path.read_bytes() for path in files.iterdir()} == before


def test_a_manifest_beside_the_order_that_is_none_is_refused(run, files):
    (files / "order.jsonl.manifest.json").write_text("[]")
    with pytest.raises(InvalidInput, match="no manifest of an order"):
        run()


def test_a_training_file_that_is_not_there_is_refused(run):
    with pytest.raises(InvalidInput, match=r"train: there is no file or folder .*absent"):
        run("--train", "absent.jsonl")
