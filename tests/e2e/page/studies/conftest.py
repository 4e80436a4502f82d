"""An API of its own for the views of studies and evaluations, on a registry that has some in every state."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext, expect
from tests.support.page_studies import Seeded, StudyMaker
from tests.support.served import served

from nearfirst.contracts.runs import RunKind
from nearfirst.registry import studies
from nearfirst.registry.database import Database
from nearfirst.registry.migrate import upgrade
from nearfirst.settings import Settings
from nearfirst.store.artifacts import Store
from nearfirst_arrangement.app import make_app

NUM_SWEEPS = 10
_FOUR = ["as_is", "random", "round_robin", "random"]


PATIENCE_MS = 60_000
"""Reports are computed when they are asked for, and other tests may have the machine's cores meanwhile."""


@pytest.fixture(autouse=True)
def patience(context: BrowserContext) -> None:
    expect.set_options(timeout=PATIENCE_MS)
    context.set_default_timeout(2 * PATIENCE_MS)


@pytest.fixture(scope="session")
def study_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    found = Settings(home=tmp_path_factory.mktemp("studies"))
    for folder in (found.home, *found.allowed_roots, found.runs_dir):
        folder.mkdir(parents=True, exist_ok=True)
    upgrade(found.database_url)
    return found


@pytest.fixture(scope="session")
def seeded(study_settings: Settings) -> Iterator[Seeded]:
    database = Database(study_settings.database_url)
    store = Store(study_settings.store_url, cache=study_settings.home / "cache")
    maker = StudyMaker(study_settings, database, store, every=20)
    done = maker.submit(maker.spec("which order first", seeds=[0, 1]))
    maker.finish(done)
    four = [
        {"label": f"{method}, {limit} rows", "method": method, "limit": limit}
        for method, limit in zip(_FOUR, (240, 240, 240, 120), strict=True)
    ]
    sweeps = [
        maker.submit(maker.spec(f"sweep {n}", arrangements=four, baseline=four[1]["label"])) for n in range(NUM_SWEEPS)
    ]
    with database.write() as session:
        studies.pause(session, sweeps[0])
    yield Seeded(maker, done, _under_way(maker), _failed(maker), sweeps)
    database.close()


def _under_way(maker: StudyMaker) -> str:
    study = maker.submit(maker.spec("under way", baseline=None, seeds=[0]))
    for node in maker.nodes(study):
        if node.kind is RunKind.ARRANGEMENT:
            maker.arrange(node.run)
    jobs = [node for node in maker.nodes(study) if node.kind is RunKind.TRAIN_JOB]
    maker.train(jobs[0], last_step=60)
    maker.train(jobs[1], last_step=45)
    maker.measure(study, num_steps=2)
    return study


def _failed(maker: StudyMaker) -> str:
    study = maker.submit(maker.spec("with a failure", seeds=[0], evaluation={"metrics": ["loss"]}))
    for node in maker.nodes(study):
        if node.kind is RunKind.ARRANGEMENT:
            maker.arrange(node.run)
    for node in maker.nodes(study):
        if node.kind is RunKind.TRAIN_JOB and node.arrangement == "farthest first":
            maker.fail(node.run, "step 41: the loss is not a finite number")
        elif node.kind is RunKind.TRAIN_JOB:
            maker.train(node, last_step=60)
    maker.measure(study)
    return study


@pytest.fixture(scope="session")
def url(study_settings: Settings, seeded: Seeded) -> Iterator[str]:
    with served(make_app(study_settings)) as found:
        yield found
