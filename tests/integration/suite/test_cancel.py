"""A cancel through the API ends what only that arrangement waited for; another one's embeddings go on to their end."""

from collections.abc import Callable
from pathlib import Path

from sqlalchemy import select
from tests.integration.suite.test_main_job import arrangement_body
from tests.support.suite import RunningSuite

from nearfirst.registry.database import Database
from nearfirst.registry.models import RunRow


def states_of_all_runs(suite: RunningSuite) -> dict[str, str]:
    database = Database(suite.settings()["database_url"])
    with database.read() as session:
        states = {row.id: row.state for row in session.execute(select(RunRow)).scalars()}
    database.close()
    return states


def test_a_cancel_leaves_what_another_arrangement_needs_and_ends_the_rest(
    make_suite: Callable[..., RunningSuite], data_files: dict[str, Path]
) -> None:
    suite = make_suite(NEARFIRST_EMBEDDING_SHARD_ROWS="20", NEARFIRST_CANDIDATE_SHARD_ROWS="20")
    suite.start_api()
    ids = {split: suite.upload(path)["id"] for split, path in data_files.items()}
    unwanted = suite.post("/arrangements", arrangement_body(ids))
    wanted = suite.post("/arrangements", arrangement_body({**ids, "test": ids["train"]}))
    needed = {run: set(suite.get(f"/arrangements/{run}")["waits_for"]) for run in (unwanted, wanted)}
    shared, alone = needed[unwanted] & needed[wanted], needed[unwanted] - needed[wanted]
    assert shared
    assert alone
    assert suite.client.post(f"/arrangements/{unwanted}/cancel").json()["state"] == "cancelled"
    for service in ("embedding", "arrangement"):
        suite.start_worker(service)
    assert suite.wait(f"/arrangements/{wanted}")["state"] == "succeeded"
    ended = dict.fromkeys({unwanted, *alone}, "cancelled") | dict.fromkeys({wanted, *needed[wanted]}, "succeeded")
    assert states_of_all_runs(suite) == ended
