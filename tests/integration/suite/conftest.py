import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.services import PostgresServer, RedisServer
from tests.support.suite import RunningSuite
from tests.support.tiny import make_tiny_llama

ENCODER = "package:all-MiniLM-L6-v2"
TOPICS = ("bread", "rain", "chess", "engines", "poems", "planets")


def p3_rows(topics: tuple[str, ...], count: int, split: str) -> list[dict[str, str]]:
    return [
        {
            "id": f"{split}-{topic}-{number}",
            "task": f"{split}_{topic}",
            "inputs_pretokenized": f"Write sentence {number} about {topic}.",
            "targets_pretokenized": f"Sentence {number} says that {topic} are worth {number * 7} words.",
            "split": split,
        }
        for topic in topics
        for number in range(count)
    ]


@pytest.fixture(scope="session")
def data_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A training pool of 60 rows (two of them with the same text) and 9 test rows, in P3's layout."""
    folder = tmp_path_factory.mktemp("data")
    train = p3_rows(TOPICS, 10, "train")
    train[31] = {**train[31], "inputs_pretokenized": train[4]["inputs_pretokenized"]}
    train[31]["targets_pretokenized"] = train[4]["targets_pretokenized"]
    rows = {"train": train, "test": p3_rows(TOPICS[:3], 3, "test")}
    paths = {}
    for split, items in rows.items():
        paths[split] = folder / f"{split}.jsonl"
        paths[split].write_text("".join(json.dumps(row) + "\n" for row in items))
    return paths


SuiteFactory = Callable[..., RunningSuite]


@pytest.fixture(scope="module")
def make_suite(
    tmp_path_factory: pytest.TempPathFactory,
    postgres_server: PostgresServer,
    migrated_template: str,
    redis_server: RedisServer,
    data_files: dict[str, Path],
) -> Iterator[SuiteFactory]:
    """Makes suites, each on a database of its own; they end with the module."""
    suites: list[RunningSuite] = []
    databases: list[str] = []
    numbers = itertools.count(1)

    def make(**settings: Any) -> RunningSuite:
        home = tmp_path_factory.mktemp("home")
        databases.append(postgres_server.create_database(template=migrated_template))
        # A broker of its own: another suite's workers would take its messages.
        broker_url = redis_server.url(next(numbers))
        suite = RunningSuite(home, databases[-1], broker_url, **settings)
        suites.append(suite)
        texts = data_files["train"].read_text().splitlines()
        make_tiny_llama(home / "models" / "tiny", texts, vocab_size=400, hidden_size=32, layers=1, heads=2)
        return suite

    yield make
    for suite in suites:
        suite.close()
    for url in databases:
        postgres_server.drop_database(url)


@pytest.fixture(scope="module")
def suite(make_suite: SuiteFactory) -> RunningSuite:
    """API, embedding, arrangement and training worker, all running."""
    running = make_suite()
    running.start()
    return running


@pytest.fixture(scope="module")
def datasets(suite: RunningSuite, data_files: dict[str, Path]) -> dict[str, str]:
    """Ids of the registered training pool and test set."""
    return {split: suite.upload(path)["id"] for split, path in data_files.items()}
