"""Datasets and arrangements to look at, made through the API; what workers do is done in this process."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np

from nearfirst.contracts.problems import Problem
from nearfirst.contracts.runs import RunKind
from nearfirst.queue.app import make_celery
from nearfirst.queue.context import RunContext, RunResult, Worker
from nearfirst.registry import records, runs
from nearfirst.registry.database import Database
from nearfirst.registry.runs import Claim
from nearfirst.settings import Settings
from nearfirst.store.artifacts import Store
from nearfirst_arrangement.tasks import arrange_datasets
from nearfirst_embedding.tasks import embed

TASKS = ("capitals", "sums", "rhymes")
NUM_TRAIN = 36
NUM_TEST = 9
LONG = "It was a long day. " * 60
MARKUP = "<img src=x onerror=\"document.title='taken over'\"> & <b>bold</b>"


@dataclass(frozen=True)
class PageOrders:
    """Ids by what they are."""

    train: str
    test: str
    nearest: str
    """TMA, nearest first; row 0 of the test set is a train row, too."""
    farthest: str
    random: str
    """Without embeddings."""
    failed: str
    queued: str


def train_rows() -> list[dict[str, Any]]:
    """Rows of three tasks in turn: one with a long text, one with markup, one with several turns."""
    rows = [
        {"id": f"train-{n}", "task": TASKS[n % 3], "prompt": f"Question {n}?", "completion": f"Answer {n}."}
        for n in range(NUM_TRAIN)
    ]
    rows[1]["prompt"] = LONG
    rows[2]["prompt"] = MARKUP
    return rows


def rows_of_test() -> list[dict[str, Any]]:
    """Rows of the test set; the first is train row 5."""
    rows = [
        {"id": f"test-{n}", "task": f"{TASKS[n % 3]} of the test", "prompt": f"Asked {n}?", "completion": f"So {n}."}
        for n in range(NUM_TEST)
    ]
    return [rows[0] | {key: train_rows()[5][key] for key in ("prompt", "completion")}, *rows[1:]]


def vectors() -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors of train and test rows; train row 5 and test row 0 have the same."""
    random = np.random.default_rng(4)
    train, test = (random.normal(size=(num, 8)) for num in (NUM_TRAIN, NUM_TEST))
    test[0] = train[5]
    return tuple((rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32) for rows in (train, test))


def register(client: httpx.Client, name: str, rows: list[dict[str, Any]]) -> str:
    """A dataset of these rows; returns its id."""
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    return str(client.post("/datasets", files={"file": (name, content)}).raise_for_status().json()["id"])


def make_orders(client: httpx.Client, settings: Settings) -> PageOrders:
    """Register both datasets and arrange them."""
    train, test = register(client, "pool.jsonl", train_rows()), register(client, "exam.jsonl", rows_of_test())
    folder = settings.home / "data"
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in zip(("train", "test"), vectors(), strict=True):
        np.save(folder / f"{name}.npy", rows)
    paths = {train: str(folder / "train.npy"), test: str(folder / "test.npy")}
    given = {"train": train, "test": test, "representation": {"kind": "precomputed", "vectors": paths}}

    def arrange(**rules: Any) -> str:
        return str(client.post("/arrangements", json=rules).raise_for_status().json()["id"])

    orders = PageOrders(
        train=train,
        test=test,
        nearest=arrange(**given, method="tma", order="nft"),
        farthest=arrange(**given, method="tma", order="fft"),
        random=arrange(train=train, test=test, method="random", seed=3),
        failed=arrange(train=train, test=test, method="round_robin"),
        queued="",
    )
    database = Database(settings.database_url)
    try:
        _work(database, settings, RunKind.EMBEDDING, embed)
        _fail(database, orders.failed)
        _work(database, settings, RunKind.ARRANGEMENT, arrange_datasets)
    finally:
        database.close()
    return PageOrders(**(vars(orders) | {"queued": arrange(train=train, test=test, method="as_is")}))


def _work(database: Database, settings: Settings, kind: RunKind, task: Callable[[RunContext], RunResult]) -> None:
    """Do what a worker does with each queued run of a kind."""
    store = Store(settings.store_url, cache=settings.home / "cache")
    worker = Worker(settings, database, store, make_celery(settings), threading.Event())
    with database.read() as session:
        ids = [row.id for row in records.list_runs(session, kind, 0, 100)[0]]
    for run_id in ids:
        with database.write() as session:
            claimed = runs.claim(session, run_id, "this test", lease_s=3600)
        if claimed is not None:
            done = task(RunContext(worker, claimed, asked_s=time.monotonic()))
            with database.write() as session:
                runs.finish(session, claimed, result=done.result, artifact=done.artifact)


def _fail(database: Database, run_id: str) -> None:
    problem = Problem(title="Invalid input", status=422, code="invalid_input", detail="the rows name no task")
    with database.write() as session:
        claimed: Claim | None = runs.claim(session, run_id, "this test", lease_s=3600)
        assert claimed is not None
        runs.fail(session, claimed, problem)
