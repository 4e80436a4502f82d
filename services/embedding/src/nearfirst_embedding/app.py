"""The embedding server: `uvicorn nearfirst_embedding.app:make_app --factory`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from nearfirst.logs import configure_logging
from nearfirst.settings import Settings, get_settings
from nearfirst.web.app import create_app
from nearfirst_embedding.encoder import load_encoder
from nearfirst_embedding.endpoints import router
from nearfirst_embedding.service import EmbeddingService
from nearfirst_embedding.settings import EmbeddingSettings, get_embedding_settings


def make_app(settings: Settings | None = None, embedding_settings: EmbeddingSettings | None = None) -> FastAPI:
    """The application that serves one encoder (default settings: the environment's).

    The encoder is loaded before the port answers, so a server that answers is ready; a model that can't be loaded ends
    the process with the reason.
    """
    settings = settings or get_settings()
    embedding_settings = embedding_settings or get_embedding_settings()
    configure_logging(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        encoder = await run_in_threadpool(load_encoder, embedding_settings.representation)
        app.state.embeddings = EmbeddingService(encoder, embedding_settings)
        yield

    app = create_app("Nearfirst embeddings", settings, lifespan=lifespan)
    app.include_router(router)
    return app
