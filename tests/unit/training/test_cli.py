import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import typer
import yaml
from typer.testing import CliRunner

from nearfirst.contracts.problems import InvalidDataset, InvalidInput, NearfirstError, NotReady, OrderMismatch
from nearfirst.data.dataset import load_dataset
from nearfirst.data.order import order_table, read_order, write_order
from nearfirst_training import cli


@pytest.fixture
def run(monkeypatch):
    """Run a command; what it raises comes through."""
    monkeypatch.setattr(cli.StopRequest, "listen", lambda *_: None)
    app = typer.Typer()
    app.command("train")(cli.train)
    app.command("verify")(cli.verify)

    def run(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)

    return run


@pytest.fixture
def spec(tmp_path, train_file, test_file, model_folder, shuffled_order):
    """A spec with relative paths, in a folder with everything it names."""
    folder = tmp_path / "study"
    shutil.copytree(model_folder, folder / "model")
    for name, source in (("train", train_file), ("test", test_file), ("order", shuffled_order)):
        shutil.copy(source, folder / f"{name}.jsonl")
    fields = {
        "model": {"name_or_path": "model", "init": "random"},
        "global_batch_size": 8,
        "max_length": 64,
        "optimizer": {"lr": "3e-3"},
        "checkpoint": {"weights_every": 2, "state_every": 2},
        "data": {"train": "train.jsonl", "order": "order.jsonl", "test": "test.jsonl", "evaluate_every": 2},
    }
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(fields))
    return path


def edit(spec, **fields):
    spec.write_text(yaml.safe_dump(yaml.safe_load(spec.read_text()) | fields))


@pytest.fixture
def trained(run, spec, tmp_path):
    out = tmp_path / "out"
    assert run("train", spec, "--out", out).exit_code == 0
    return out


def test_train_writes_a_run_and_shows_what_came_out(run, spec, tmp_path):
    result = run("train", spec, "--out", tmp_path / "out")
    receipt = json.loads((tmp_path / "out" / "receipt.json").read_text())
    assert receipt["verified"]
    shown = "".join(result.stdout.split())
    assert receipt["arrangement_digest"].removeprefix("sha256:")[:20] in shown
    assert "verified" in shown
    assert "->" in shown
    assert "training" in result.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "checkpoints",
        "consumed.jsonl",
        "dataset.json",
        "job.json",
        "metrics.jsonl",
        "order.jsonl",
        "receipt.json",
        "spec.json",
    }


def test_several_processes_give_the_same_receipt_and_the_same_display(run, spec, trained, tmp_path):
    edit(spec, processes=2)
    result = run("train", spec, "--out", tmp_path / "shared")
    assert result.exit_code == 0
    receipts = [json.loads((out / "receipt.json").read_text()) for out in (trained, tmp_path / "shared")]
    assert receipts[0] == receipts[1]
    assert "->" in result.stdout
    assert "training" in result.stderr
    assert (tmp_path / "shared" / "checkpoints/step-000005/state/state-00001-of-00002.safetensors").is_file()
    assert run("verify", tmp_path / "shared").exit_code == 0


def test_an_error_of_several_processes_keeps_its_code(run, spec, tmp_path):
    edit(spec, processes=2)
    (spec.parent / "order.jsonl").write_text("{}\n")
    with pytest.raises(NearfirstError) as caught:
        run("train", spec, "--out", tmp_path / "out")
    assert (caught.value.code, "order.jsonl" in caught.value.detail) == ("order_mismatch", True)


@pytest.mark.parametrize("processes", [1, 2])
def test_ctrl_c_saves_a_state_that_resume_goes_on_from(spec, tmp_path, processes):
    edit(spec, processes=processes, epochs=200, checkpoint={"state_every": 100_000})
    out = tmp_path / "out"
    code = "import sys, typer; from nearfirst_training import cli; typer.run(cli.train)"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(spec), "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    give_up = time.monotonic() + 90
    while not (out / "consumed.jsonl").is_file() or (out / "consumed.jsonl").read_text().count("\n") < 3:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < give_up
        time.sleep(0.05)
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) == (0 if processes == 1 else 3)  # torchrun and two ranks
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "--resume` goes on" in said
    assert psutil.wait_procs(family, timeout=5)[1] == []
    saved = list((out / "checkpoints").glob("step-*/state/manifest.json"))
    assert len(saved) == 1
    consumed = (out / "consumed.jsonl").read_text().splitlines()
    assert json.loads(saved[0].read_text())["step"] == len(consumed) >= 3


def test_a_used_folder_needs_resume(run, spec, trained):
    with pytest.raises(InvalidInput, match="isn't empty"):
        run("train", spec, "--out", trained)
    assert run("train", spec, "--out", trained, "--resume").exit_code == 0


@pytest.mark.parametrize(
    ("fields", "field", "said"),
    [
        ({"optimiser": {}}, "optimiser", "no such field"),
        ({"data": {"train": "train.jsonl", "orders": "x"}}, "data.orders", "no such field"),
        ({"global_batch_size": 0}, "global_batch_size", "greater than or equal to 1"),
        ({"model": {"init": "random"}}, "model.name_or_path", "required"),
        ({"schedule": {"kind": "sine"}}, "schedule.kind", "constant"),
    ],
)
def test_a_wrong_field_is_named(run, spec, tmp_path, fields, field, said):
    edit(spec, **fields)
    with pytest.raises(InvalidInput) as caught:
        run("train", spec, "--out", tmp_path / "out")
    assert field in caught.value.detail
    assert [problem.field for problem in caught.value.errors] == [field]
    assert said in caught.value.errors[0].wanted
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["model: [", "- a\n- b\n", ""])
def test_a_file_that_is_no_spec_is_refused(run, spec, tmp_path, text):
    spec.write_text(text)
    with pytest.raises(InvalidInput, match=r"spec .*spec\.yaml"):
        run("train", spec, "--out", tmp_path / "out")


def test_a_spec_that_is_not_there_is_named(run, tmp_path):
    with pytest.raises(InvalidInput, match=r"missing\.yaml can't be read"):
        run("train", tmp_path / "missing.yaml", "--out", tmp_path / "out")


def test_a_malformed_dataset_line_is_named_and_nothing_is_written(run, spec, tmp_path):
    lines = (spec.parent / "train.jsonl").read_text().splitlines()
    lines[16] = "{"
    (spec.parent / "train.jsonl").write_text("\n".join(lines))
    with pytest.raises(InvalidDataset, match="line 17"):
        run("train", spec, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_verify_shows_what_agrees(run, trained):
    result = run("verify", trained)
    head = json.loads((trained / "receipt.json").read_text())["head"]
    assert result.exit_code == 0
    assert "".join(result.stdout.split()).count(head[:16]) >= 3


def test_verify_as_json_has_the_receipt_and_the_checkpoints(run, trained):
    result = run("verify", trained, "--json")
    told = json.loads(result.stdout)
    assert told["receipt"] == json.loads((trained / "receipt.json").read_text())
    assert len(told["checkpoints"]) > 0


def test_verify_of_an_unfinished_run_says_so(run, tmp_path):
    with pytest.raises(NotReady, match=r"no receipt\.json"):
        run("verify", tmp_path)


def swap_lines(path, first, second):
    lines = path.read_text().splitlines(keepends=True)
    lines[first], lines[second] = lines[second], lines[first]
    path.write_text("".join(lines))


def change_json(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def rewrite_line(path, number, change):
    lines = path.read_text().splitlines(keepends=True)
    value = json.loads(lines[number])
    change(value)
    lines[number] = json.dumps(value) + "\n"
    path.write_text("".join(lines))


TAMPERINGS = {
    "order rows swapped": (lambda out: swap_lines(out / "order.jsonl", 17, 18), "step 3"),
    "order cut": (lambda out: (out / "order.jsonl").write_text((out / "order.jsonl").read_text()[:4000]), "step"),
    "consumed ids swapped": (
        lambda out: rewrite_line(out / "consumed.jsonl", 1, lambda line: line["ids"].reverse()),
        "step 2: row 1",
    ),
    "consumed head changed": (
        lambda out: rewrite_line(out / "consumed.jsonl", 3, lambda line: line.update(head="00")),
        "step 4",
    ),
    "consumed cut": (
        lambda out: (out / "consumed.jsonl").write_text(
            "".join((out / "consumed.jsonl").read_text().splitlines(keepends=True)[:2])
        ),
        "step 3",
    ),
    "receipt head": (lambda out: change_json(out / "receipt.json", lambda r: r.update(head="00" * 32)), "step 5"),
    "receipt says unverified": (
        lambda out: change_json(out / "receipt.json", lambda r: r.update(verified=False)),
        "step 5: receipt.json has verified",
    ),
    "receipt of another order": (
        lambda out: change_json(out / "receipt.json", lambda r: r.update(arrangement_digest="sha256:00")),
        "step 1",
    ),
    "checkpoint head": (
        lambda out: change_json(
            out / "checkpoints/step-000004/weights/manifest.json", lambda m: m.update(receipt_head="00")
        ),
        "step 4: the weights checkpoint",
    ),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_verify_names_the_first_wrong_step(run, trained, name):
    tamper, said = TAMPERINGS[name]
    tamper(trained)
    with pytest.raises(OrderMismatch, match=said):
        run("verify", trained)


def test_an_order_forged_with_its_own_chain_is_still_caught(run, trained, train_file):
    loaded = load_dataset(train_file)
    ids, tasks = [e.id for e in loaded.examples], [e.task for e in loaded.examples]
    order = trained / "order.jsonl"
    index = read_order(
        order, dataset_digest=loaded.digest, expected_digest=None, ids=ids, global_batch_size=8
    ).index.copy()
    index[[20, 21]] = index[[21, 20]]
    write_order(order, order_table(loaded.digest, index, ids=ids, tasks=tasks))
    with pytest.raises(OrderMismatch, match="step 3: row 5"):
        run("verify", trained)


def test_importing_the_commands_needs_no_torch():
    code = "import sys, nearfirst_training.cli; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_run_can_be_verified_after_it_moved(run, trained, tmp_path):
    moved = trained.rename(Path(tmp_path) / "elsewhere")
    assert run("verify", moved).exit_code == 0
