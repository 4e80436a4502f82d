"""The public API: `uvicorn nearfirst_arrangement.app:make_app --factory`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from nearfirst.contracts.problems import NotReady
from nearfirst.logs import configure_logging
from nearfirst.queue.app import make_celery
from nearfirst.queue.sweeper import Sweeper
from nearfirst.registry.database import Database
from nearfirst.registry.migrate import is_current
from nearfirst.settings import Settings, get_settings
from nearfirst.store.artifacts import Store
from nearfirst.web.app import create_app
from nearfirst.web.registry_metrics import RegistryMetrics
from nearfirst_arrangement.arrangements.endpoints import router as arrangements
from nearfirst_arrangement.datasets.endpoints import router as datasets
from nearfirst_arrangement.evaluations.endpoints import router as evaluations
from nearfirst_arrangement.events.endpoints import router as events
from nearfirst_arrangement.keys.endpoints import PREFIX as KEYS
from nearfirst_arrangement.keys.endpoints import router as keys
from nearfirst_arrangement.page.endpoints import make_router as make_page_router
from nearfirst_arrangement.page.endpoints import open_paths
from nearfirst_arrangement.page.files import read_page_files
from nearfirst_arrangement.queue.endpoints import router as queue
from nearfirst_arrangement.studies.endpoints import router as studies
from nearfirst_arrangement.train_jobs.endpoints import models_router as models
from nearfirst_arrangement.train_jobs.endpoints import router as train_jobs


def make_app(settings: Settings | None = None) -> FastAPI:
    """The application on the registry, broker and store of the settings (default: the environment's)."""
    settings = settings or get_settings()
    configure_logging(settings)
    database = Database(settings.database_url)
    store = Store(settings.store_url, cache=settings.home / "cache")
    celery = make_celery(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        sweeper = Sweeper(database, store, celery, settings)
        sweeper.start()
        yield
        sweeper.stop()
        database.close()

    def readiness() -> None:
        if not is_current(database):
            raise NotReady("the registry's tables are of another version: run `python -m nearfirst.registry.migrate`")

    page = read_page_files()
    app = create_app(
        "Nearfirst",
        settings,
        lifespan=lifespan,
        readiness=readiness,
        upload_paths=frozenset({"/datasets"}),
        admin_paths=frozenset({KEYS}),
        open_paths=open_paths(page),
    )
    app.state.metrics.register(RegistryMetrics(database, settings.lease_s, settings.metrics_max_age_s))
    app.state.database = database
    app.state.store = store
    app.state.celery = celery
    for router in (datasets, arrangements, train_jobs, models, evaluations, studies, queue, events, keys):
        app.include_router(router)
    app.include_router(make_page_router(page))
    return app
