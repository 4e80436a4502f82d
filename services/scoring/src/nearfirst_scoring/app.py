"""The scoring server: `uvicorn nearfirst_scoring.app:make_app --factory`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from nearfirst.logs import configure_logging
from nearfirst.settings import Settings, get_settings
from nearfirst.web.app import create_app
from nearfirst.web.places import reserve_threads
from nearfirst_scoring.endpoints import router
from nearfirst_scoring.opening import open_served
from nearfirst_scoring.service import ScoringService
from nearfirst_scoring.settings import ScoringSettings, get_scoring_settings


def make_app(settings: Settings | None = None, scoring_settings: ScoringSettings | None = None) -> FastAPI:
    """The application that serves one reward model (default settings: the environment's).

    The model is loaded before the port answers, so a server that answers is ready; a folder that can't be trusted ends
    the process with the reason.
    """
    settings = settings or get_settings()
    scoring_settings = scoring_settings or get_scoring_settings()
    configure_logging(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        reserve_threads(scoring_settings.max_requests)
        scorer = await run_in_threadpool(open_served, scoring_settings)
        app.state.scoring = await run_in_threadpool(ScoringService, scorer, scoring_settings)
        yield

    app = create_app("Nearfirst rewards", settings, lifespan=lifespan, readiness=lambda: app.state.scoring.check())
    app.include_router(router)
    return app
