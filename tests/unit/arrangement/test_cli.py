"""`nearfirst arrange` as a user runs it: files in, an order and its manifest out, errors that say what was wrong."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from nearfirst.contracts.problems import InvalidEmbeddings, InvalidInput, NearfirstError
from nearfirst.data.order import read_order
from nearfirst_arrangement import embedding_files
from nearfirst_arrangement.cli import arrange as arrange_command

NUM_TRAIN, NUM_TEST = 30, 6


@pytest.fixture
def files(tmp_path):
    """data.jsonl with rows of two splits, taking turns, and a vector for each of its rows."""
    rows = []
    for number in range(NUM_TRAIN + NUM_TEST):
        split = "test" if number % 6 == 5 else "train"
        rows.append(
            {
                "id": f"r{number}",
                "task": f"task{number % 3}",
                "inputs_pretokenized": f"question {number}",
                "targets_pretokenized": f"answer {number}",
                "split": split,
            }
        )
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    vectors = np.random.default_rng(0).normal(size=(len(rows), 8)).astype(np.float16)
    np.save(tmp_path / "data.npy", vectors)
    is_test = np.arange(len(rows)) % 6 == 5
    np.save(tmp_path / "train.npy", vectors[~is_test])
    np.save(tmp_path / "test.npy", vectors[is_test])
    return tmp_path


@pytest.fixture
def run(files):
    """Options -> the command's output; a user's error is raised as it is."""
    app = typer.Typer()
    app.command()(arrange_command)

    def invoke(*options, embeddings=("train.npy", "test.npy"), out="order.jsonl"):
        data = files / "data.jsonl"
        arguments = ["--train", data, "--test", data, "--train-split", "train", "--test-split", "test"]
        if embeddings is not None:
            train, test = embeddings
            arguments += ["--train-embeddings", files / train, "--test-embeddings", files / test]
        result = CliRunner().invoke(app, [*map(str, arguments), "--out", str(files / out), *options])
        if isinstance(result.exception, NearfirstError):
            raise result.exception
        return result

    return invoke


def order_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def manifest_of(path):
    return json.loads(path.with_name(f"{path.name}.manifest.json").read_text())


def test_writes_a_verified_order_and_a_manifest_and_says_where(run, files, literal, matrix, unit):
    result = run("--method", "tma", "--order", "nft", "--fidelity", "paper")
    assert result.exit_code == 0, result.output
    out = files / "order.jsonl"
    rows, manifest = order_of(out), manifest_of(out)
    train, test = unit(np.load(files / "train.npy")), unit(np.load(files / "test.npy"))
    rounds = literal(matrix(train, test))
    assert [row["index"] for row in rows] == [row for each in rounds for row in each]
    assert manifest["num_rounds"] == len(rounds)
    assert manifest["num_rows"] == len(rows) == NUM_TRAIN
    assert manifest["computed"]["similarity_quantum"] == 2.0**-40
    assert manifest["report"]["num_rows"] == NUM_TRAIN
    assert "Leaks" in result.output or "leak" in result.output
    train_ids = [f"r{number}" for number in range(NUM_TRAIN + NUM_TEST) if number % 6 != 5]
    verified = read_order(
        out,
        dataset_digest=manifest["train"]["digest"],
        expected_digest=manifest["digest"],
        ids=train_ids,
        global_batch_size=4,
    )
    assert verified.digest == manifest["digest"]
    assert rows[0]["id"] in result.output
    assert str(NUM_TRAIN) in result.output


def test_json_is_the_only_thing_on_stdout(run, files):
    result = run("--method", "tma", "--order", "nft", "--json")
    told = json.loads(result.stdout)
    assert told["num_rows"] == NUM_TRAIN
    assert told["order"] == str(files / "order.jsonl")
    assert told["digest"] == manifest_of(files / "order.jsonl")["digest"]


def test_vectors_of_the_whole_file_are_split_like_its_rows(run, files):
    run("--method", "wsd", "--order", "nft", out="selected.jsonl")
    run("--method", "wsd", "--order", "nft", embeddings=("data.npy", "data.npy"), out="whole.jsonl")
    assert order_of(files / "selected.jsonl") == order_of(files / "whole.jsonl")


@pytest.mark.parametrize(
    ("options", "num_rows"),
    [
        (("--method", "wsd", "--order", "fft", "--limit", "7"), 7),
        (("--method", "wsd", "--order", "rt", "--seed", "3", "--w-avg", "0.5", "--w-min", "2"), NUM_TRAIN),
        (("--method", "tma", "--order", "max", "--limit", "9"), 9),
        (("--method", "random", "--seed", "4"), NUM_TRAIN),
        (("--method", "as_is", "--limit", "2"), 2),
        (("--method", "wsd", "--order", "nft", "--similarity", "euclidean"), NUM_TRAIN),
        (("--method", "wsd", "--order", "nft", "--granularity", "coarse"), NUM_TRAIN),
        (("--method", "ot", "--order", "fft"), NUM_TRAIN),
        (("--method", "round_robin", "--per-task", "2", "--select", "polar"), 6),
        (("--method", "cluster", "--per-task", "2", "--select", "uniform", "--test-per-task", "1"), 6),
        (("--method", "wsd", "--order", "nft", "--train-task", "task0", "--train-task", "task1"), 24),
        (("--method", "tma", "--order", "nft", "--test-task", "task2"), NUM_TRAIN),
    ],
)
def test_every_method_runs(run, files, options, num_rows):
    result = run(*options)
    assert result.exit_code == 0, result.output
    assert len(order_of(files / "order.jsonl")) == num_rows


def test_rounds_are_given_as_a_range(run, files):
    run("--method", "tma", "--order", "nft", "--rounds", "1:3")
    assert {row["round"] for row in order_of(files / "order.jsonl")} == {1, 2}


def test_random_needs_no_vectors(run, files):
    assert run("--method", "random", embeddings=None).exit_code == 0
    assert order_of(files / "order.jsonl")[0]["nearest_test_id"] is None


def test_a_task_filter_keeps_the_datasets_own_row_numbers(run, files):
    run("--method", "as_is", "--train-task", "task1", "--train-task", "task2")
    rows = order_of(files / "order.jsonl")
    assert {row["task"] for row in rows} == {"task1", "task2"}
    train_ids = [f"r{number}" for number in range(NUM_TRAIN + NUM_TEST) if number % 6 != 5]
    assert [train_ids[row["index"]] for row in rows] == [row["id"] for row in rows]


def test_the_report_is_written_as_json_and_pictures(run, files):
    result = run("--method", "wsd", "--order", "nft", "--report", str(files / "report"))
    assert result.exit_code == 0, result.output
    written = {path.name for path in (files / "report").iterdir()}
    assert written == {f"{name}.{suffix}" for name in ("report", "curve") for suffix in ("json", "svg", "png")}
    curve = json.loads((files / "report" / "curve.json").read_text())
    assert curve["rows"][-1] == NUM_TRAIN
    assert (files / "report" / "report.png").read_bytes().startswith(b"\x89PNG")


def test_two_runs_write_the_same_bytes(run, files):
    run("--method", "tma", "--order", "rt", out="one.jsonl")
    run("--method", "tma", "--order", "rt", out="two.jsonl")
    assert (files / "one.jsonl").read_bytes() == (files / "two.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("options", "known"),
    [
        (("--method", "nearest", "--order", "nft"), ("wsd", "tma", "random", "as_is")),
        (("--method", "tma", "--order", "first"), ("nft", "fft", "rt", "max", "min")),
        (("--method", "tma", "--order", "nft", "--fidelity", "exact"), ("corrected", "paper")),
        (("--method", "tma", "--order", "nft", "--sorted"), ("--sorted",)),
    ],
)
def test_an_unknown_value_is_refused_with_the_known_ones(run, files, options, known):
    result = run(*options)
    assert result.exit_code == 2
    assert all(name in result.output for name in known)
    assert not (files / "order.jsonl").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--method", "tma"), "wants an order"),
        (("--method", "wsd", "--order", "max"), "order max is for tma"),
        (("--method", "tma", "--order", "nft", "--limit", "31"), "limit: got 31, wanted at most 30"),
        (("--method", "tma", "--order", "nft", "--limit", "0"), "limit"),
        (
            ("--method", "tma", "--order", "nft", "--rounds", "0:500"),
            r"rounds: got \[0, 500\), but there are \d+ rounds",
        ),
        (("--method", "tma", "--order", "nft", "--rounds", "3"), "rounds: got '3', wanted I:J"),
        (("--method", "tma", "--order", "nft", "--rounds", "3:3"), "0 <= start < stop"),
        (("--method", "wsd", "--order", "nft", "--w-avg", "much"), "w_avg: got 'much'"),
        (("--method", "wsd", "--order", "nft", "--w-avg", "nan"), "w_avg"),
        (("--method", "wsd", "--order", "nft", "--w-avg", "0", "--w-min", "0"), "both 0"),
        (("--method", "tma", "--order", "nft", "--granularity", "coarse"), "granularity coarse is for wsd"),
        (("--method", "random", "--per-task", "3"), "select: got none"),
        (("--method", "random", "--select", "first"), "per_task: got none"),
        (("--method", "wsd", "--order", "nft", "--test-task", "golf"), "test_task: the dataset has no task 'golf'"),
        (("--method", "wsd", "--order", "nft", "--train-task", "golf"), "train_task: the dataset has no task 'golf'"),
    ],
)
def test_rules_that_do_not_fit_are_refused(run, files, options, message):
    with pytest.raises(InvalidInput, match=message):
        run(*options)
    assert not (files / "order.jsonl").exists()


def test_a_wrong_number_of_vectors_is_refused_with_all_numbers(run, files):
    np.save(files / "short.npy", np.ones((7, 8), np.float32))
    with pytest.raises(InvalidEmbeddings, match=r"has 7 rows, wanted 30 .* or 36"):
        run("--method", "wsd", "--order", "nft", embeddings=("short.npy", "test.npy"))


def test_vectors_of_different_widths_are_refused(run, files):
    np.save(files / "wide.npy", np.ones((NUM_TEST, 9), np.float32))
    with pytest.raises(InvalidEmbeddings, match=r"8 dimensions .* have 9"):
        run("--method", "wsd", "--order", "nft", embeddings=("train.npy", "wide.npy"))


def test_nan_in_vectors_is_refused_with_its_row(run, files):
    vectors = np.load(files / "train.npy")
    vectors[11, 3] = np.nan
    np.save(files / "broken.npy", vectors)
    with pytest.raises(InvalidEmbeddings, match="train_embeddings: row 11 has NaN"):
        run("--method", "wsd", "--order", "nft", embeddings=("broken.npy", "test.npy"))


def test_vectors_of_different_encoders_are_refused_naming_both(run, files):
    for name, encoder in (("train", "MiniLM r1 first_turn 256 exact"), ("test", "mpnet r1 first_turn 256 exact")):
        (files / f"{name}.npy.json").write_text(json.dumps({"encoder": encoder}))
    with pytest.raises(InvalidEmbeddings, match=r"different encoders: .*MiniLM.*mpnet"):
        run("--method", "wsd", "--order", "nft")


def test_vectors_of_other_rows_are_refused(run, files):
    (files / "train.npy.json").write_text(json.dumps({"encoder": "MiniLM", "dataset_digest": "sha256:00"}))
    with pytest.raises(InvalidEmbeddings, match="made from the rows sha256:00"):
        run("--method", "wsd", "--order", "nft")


def test_what_is_not_npy_is_refused(run, files):
    (files / "text.npy").write_text("1 2 3")
    with pytest.raises(InvalidEmbeddings, match=r"can't be read as \.npy"):
        run("--method", "wsd", "--order", "nft", embeddings=("text.npy", "test.npy"))


def test_an_archive_of_arrays_is_refused(run, files):
    with (files / "archive.npy").open("wb") as file:
        np.savez(file, vectors=np.ones((NUM_TRAIN, 8)))
    with pytest.raises(InvalidEmbeddings, match=r"can't be read as \.npy"):
        run("--method", "wsd", "--order", "nft", embeddings=("archive.npy", "test.npy"))


def test_one_side_of_vectors_alone_is_refused(run, files):
    with pytest.raises(InvalidInput, match="train_embeddings: got none"):
        run("--method", "wsd", "--order", "nft", "--test-embeddings", str(files / "test.npy"), embeddings=None)


def test_a_missing_file_and_a_missing_folder_are_named(run, files):
    with pytest.raises(InvalidInput, match="train: there is no file or folder"):
        run("--method", "random", "--train", str(files / "nowhere.jsonl"))
    with pytest.raises(InvalidInput, match=r"out: got .*nowhere"):
        run("--method", "random", out="nowhere/order.jsonl")


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("data.jsonl", "which would replace .*data.jsonl, a file that is read"),
        ("./folder/../data.jsonl", "a file that is read"),
        ("train.npy", "wanted a name that ends in .jsonl or .parquet"),
        ("order.txt", "wanted a name that ends in"),
        ("folder", "wanted a name that ends in"),
        ("folder.jsonl", "no ordinary file"),
        ("busy.jsonl", "busy.jsonl.manifest.json is no ordinary file"),
    ],
)
def test_an_output_that_can_not_or_should_not_be_written_is_refused_at_once(run, files, out, message):
    for folder in ("folder", "folder.jsonl", "busy.jsonl.manifest.json"):
        (files / folder).mkdir()
    before = {path: path.read_bytes() for path in files.iterdir() if path.is_file()}
    with pytest.raises(InvalidInput, match=message):
        run("--method", "random", out=out)
    assert {path: path.read_bytes() for path in files.iterdir() if path.is_file()} == before


def test_a_report_folder_that_is_a_file_is_refused_at_once(run, files):
    with pytest.raises(InvalidInput, match=r"report: got .*data\.npy, which is a file"):
        run("--method", "random", "--report", str(files / "data.npy"))
    assert not (files / "order.jsonl").exists()


def test_without_an_encoder_installed_vectors_are_asked_for(run, monkeypatch):
    monkeypatch.setattr(embedding_files, "entry_points", lambda **_: ())
    with pytest.raises(InvalidInput, match=r"install nearfirst-embedding, or give train_embeddings"):
        run("--method", "wsd", "--order", "nft", embeddings=None)


def test_without_vectors_the_installed_encoder_embeds_the_text_that_the_rule_names(run, files, monkeypatch):
    texts_seen = []

    class LettersEncoder:
        """An entry point whose encoder counts letters: a stand-in for the weights, not for the wiring."""

        value = "tests:letters"

        def load(self):
            def encode(representation, texts, *, progress):
                texts_seen.append((representation.model, representation.max_length, list(texts)))
                vectors = np.array([[len(text), text.count("1") + 1] for text in texts], dtype=np.float32)
                return SimpleNamespace(vectors=vectors, truncated=np.array(["3" in text for text in texts]))

            return encode

    monkeypatch.setattr(embedding_files, "entry_points", lambda **query: [LettersEncoder()] if query else [])
    options = ("--model", "some/model", "--text", "instruction", "--max-length", "64")
    result = run("--method", "wsd", "--order", "nft", *options, embeddings=None)
    assert result.exit_code == 0, result.output
    (model, max_length, train_texts), (_, _, test_texts) = texts_seen
    assert (model, max_length) == ("some/model", 64)
    assert train_texts[:2] == ["question 0", "question 1"]
    assert test_texts[0] == "question 5"
    manifest = manifest_of(files / "order.jsonl")
    assert manifest["embeddings"]["representation"]["text"] == "instruction"
    num_cut = sum("3" in text for text in train_texts)
    assert manifest["report"]["truncation"]["train"]["num_rows"] == num_cut > 0
