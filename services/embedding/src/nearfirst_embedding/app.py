"""The embedding server: `uvicorn nearfirst_embedding.app:make_app --factory`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from nearfirst.contracts.arrangements import Representation
from nearfirst.logs import configure_logging
from nearfirst.settings import Settings, get_settings
from nearfirst.web.app import create_app
from nearfirst.web.places import reserve_threads
from nearfirst_embedding import sentence_transformer
from nearfirst_embedding.encoder import TransformerEncoder
from nearfirst_embedding.endpoints import router
from nearfirst_embedding.indexes.endpoints import router as indexes
from nearfirst_embedding.indexes.service import IndexSearch
from nearfirst_embedding.indexes.suite import Suite
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
        reserve_threads(embedding_settings.max_requests)
        encoder = await run_in_threadpool(_load_now, embedding_settings.representation)
        embeddings = EmbeddingService(encoder, embedding_settings)
        app.state.embeddings = embeddings
        app.state.index_search = IndexSearch(embedding_settings, settings, embeddings)
        yield
        suite.close()

    suite = Suite(settings)
    app = create_app("Nearfirst embeddings", settings, lifespan=lifespan)
    app.state.suite = suite
    app.state.embedding_settings = embedding_settings
    app.include_router(router)
    app.include_router(indexes)
    return app


def _load_now(representation: Representation) -> TransformerEncoder:
    encoder = sentence_transformer.load(representation)
    _ = encoder.model
    return encoder
