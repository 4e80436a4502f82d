"""The generation server: `uvicorn nearfirst_generation.app:make_app --factory`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from nearfirst.checkpoint_folder import open_checkpoint
from nearfirst.contracts.generation import WeightSwapRequest
from nearfirst.logs import configure_logging
from nearfirst.settings import Settings, get_settings
from nearfirst.web.app import create_app
from nearfirst_generation.endpoints import WEIGHTS, router
from nearfirst_generation.engine import Engine
from nearfirst_generation.proxy import VllmProxy
from nearfirst_generation.service import Answers, GenerationMetrics, GenerationService
from nearfirst_generation.settings import GenerationServerSettings, get_generation_server_settings
from nearfirst_generation.vllm_engine import VllmEngine


def make_app(settings: Settings | None = None, generation_settings: GenerationServerSettings | None = None) -> FastAPI:
    """The application around one engine (default settings: the environment's).

    The engine starts with the first weights: those of NEARFIRST_GENERATION_MODEL, before the port answers, or those of
    the first POST /weights. It is ready when weights are loaded and the engine's process lives.
    """
    settings = settings or get_settings()
    generation_settings = generation_settings or get_generation_server_settings()
    configure_logging(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        engine, answers = _make_engine(settings, generation_settings)
        metrics = GenerationMetrics(app.state.metrics)
        app.state.generation = GenerationService(engine, answers, metrics, generation_settings.generation_drain_s)
        try:
            if generation_settings.generation_model is not None:
                await run_in_threadpool(_load_first, engine, generation_settings.generation_model)
            yield
        finally:
            await answers.close()
            await run_in_threadpool(engine.close)

    def readiness() -> None:
        app.state.generation.info()

    limits = {"max_body_bytes": generation_settings.generation_max_body_bytes}
    app = create_app(
        "Nearfirst generation",
        settings.model_copy(update=limits),
        lifespan=lifespan,
        readiness=readiness,
        admin_changes=frozenset({WEIGHTS}),  # a swap changes everybody's answers
    )
    app.include_router(router)
    return app


def _make_engine(settings: Settings, generation_settings: GenerationServerSettings) -> tuple[Engine, Answers]:
    roots = [*settings.allowed_roots, settings.runs_dir.resolve()]
    if generation_settings.generation_engine == "transformers":
        from nearfirst_generation.own_answers import OwnAnswers
        from nearfirst_generation.transformers_engine import TransformersEngine

        in_process = TransformersEngine(roots)
        return in_process, OwnAnswers(in_process)
    engine = VllmEngine(generation_settings, roots)
    return engine, VllmProxy(engine, generation_settings.generation_timeout_s)


def _load_first(engine: Engine, path: str) -> None:
    folder = open_checkpoint(path)
    engine.load(WeightSwapRequest(path=path, version=folder.path.name, digest=folder.digest))
