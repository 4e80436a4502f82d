"""`create_app`: a FastAPI application with the suite's manners."""

import gc
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from sqlalchemy.exc import DataError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from nearfirst import __version__
from nearfirst.contracts.problems import InvalidInput, NearfirstError, Problem, field_problems
from nearfirst.settings import Settings
from nearfirst.telemetry.counters import ProcessCounters
from nearfirst.telemetry.tracing import configure_tracing
from nearfirst.web.dependencies import SessionGate, refuse_unknown_query
from nearfirst.web.guard import METRICS, PROBES, KeyGuard
from nearfirst.web.headers import SECURITY_HEADERS, SecurityHeaders
from nearfirst.web.keys import KeyRing
from nearfirst.web.limits import BodyLimit
from nearfirst.web.metrics import RequestMetrics
from nearfirst.web.openapi import declare_security
from nearfirst.web.problems import PROBLEM_ANSWER, ProblemResponse, problem_response
from nearfirst.web.traces import RequestTraces

log = logging.getLogger(__name__)

ReadinessCheck = Callable[[], None]
"""Raises NearfirstError, or whatever the dependency raises, when the service can't work."""


def create_app(
    title: str,
    settings: Settings,
    *,
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None = None,
    readiness: ReadinessCheck | None = None,
    upload_paths: frozenset[str] = frozenset(),
    admin_paths: frozenset[str] = frozenset(),
    open_paths: frozenset[str] = frozenset(),
) -> FastAPI:
    """An application with problem+json errors, keys, limits, probes and metrics; routers are added by the service.

    Once there is an API key, every route needs one: of the role `read` for GET, `submit` for anything else.

    Args:
        title: the service, for the OpenAPI document.
        settings: limits and keys.
        lifespan: FastAPI's.
        readiness: asked by GET /readyz.
        upload_paths: paths whose bodies may be `max_upload_bytes` instead of `max_body_bytes`.
        admin_paths: what needs the role `admin`, with all below them.
        open_paths: what needs no key, besides the probes.
    """
    configure_tracing(settings, title.lower())
    ring = KeyRing(settings.database_url, settings.key_cache_s)
    needs_no_key = PROBES | open_paths | (frozenset() if settings.metrics_need_key else {METRICS})
    # The interactive pages load scripts from a foreign host; the document itself is at /openapi.json.
    app = FastAPI(
        title=title,
        version=__version__,
        lifespan=_closing(ring, lifespan),
        docs_url=None,
        redoc_url=None,
        dependencies=[Depends(refuse_unknown_query)],
        responses={"default": PROBLEM_ANSWER},
    )
    app.state.settings = settings
    registry = CollectorRegistry()
    app.state.session_gate = SessionGate()
    registry.register(ProcessCounters())
    app.state.metrics = registry  # for what a service counts itself
    app.add_middleware(
        _middleware(BodyLimit),
        limit_bytes=settings.max_body_bytes,
        upload_limit_bytes=settings.max_upload_bytes,
        upload_paths=upload_paths,
    )
    app.add_middleware(
        _middleware(KeyGuard), settings=settings, ring=ring, admin_paths=admin_paths, open_paths=needs_no_key
    )
    app.add_middleware(
        _middleware(RequestMetrics),
        requests=Counter("nearfirst_http_requests", "Requests", ["method", "route", "status"], registry=registry),
        seconds=Histogram("nearfirst_http_request_seconds", "Time to answer", ["method", "route"], registry=registry),
    )
    app.add_middleware(_middleware(SecurityHeaders))
    app.add_middleware(_middleware(RequestTraces))
    declare_security(app, needs_no_key)
    app.add_exception_handler(NearfirstError, _on_nearfirst_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(UnicodeEncodeError, _on_unstorable_value)
    app.add_exception_handler(DataError, _on_unstorable_value)
    app.add_exception_handler(Exception, _on_exception)
    app.include_router(_probes(registry, readiness))
    return app


def _closing(
    ring: KeyRing, lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """The service's lifespan, without garbage collections of what was there before the first request.

    A full collection looks at every object of every imported module: on the API 0.15 s in which no request is answered,
    for objects that stay as long as the process. After it, the ring gives its connections back.
    """

    @asynccontextmanager
    async def closing(app: FastAPI) -> AsyncIterator[None]:
        async with lifespan(app) if lifespan is not None else nullcontext():
            gc.collect()
            gc.freeze()
            yield
            gc.unfreeze()
        ring.close()

    return closing


def _middleware(kind: type) -> Any:
    """Starlette's factory type can't be told the keyword arguments of an ASGI class."""
    factory: Callable[..., ASGIApp] = kind
    return factory


def _probes(registry: CollectorRegistry, readiness: ReadinessCheck | None) -> APIRouter:
    router = APIRouter(tags=["probes"])

    @router.get("/healthz")
    def healthz() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok", "version": __version__}

    @router.get("/readyz")
    def readyz() -> Response:
        """The process can work: what it depends on answers."""
        try:
            if readiness is not None:
                readiness()
        except Exception as error:  # noqa: BLE001  (whatever the dependency raises means: not ready)
            problem = Problem(title="Not ready", status=503, code="not_ready", detail=str(error))
            return ProblemResponse(problem.model_dump(mode="json"), status_code=503)
        return JSONResponse({"status": "ready"})

    @router.get("/metrics", response_class=PlainTextResponse)
    def metrics() -> Response:
        """Prometheus."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return router


async def _on_nearfirst_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, NearfirstError)
    return problem_response(error)


async def _on_validation_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = field_problems(error.errors())
    detail = "; ".join(f"{p.field}: {p.wanted}" for p in problems)
    return problem_response(InvalidInput(detail, errors=problems))


async def _on_unstorable_value(_request: Request, error: Exception) -> Response:
    """A lone surrogate, which UTF-8 can't hold; a null character, which PostgreSQL can't."""
    reason = error.orig if isinstance(error, DataError) else error
    return problem_response(InvalidInput(f"a text of the request can't be stored: {reason}"))


async def _on_http_exception(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(reason := error.__cause__, UnicodeDecodeError | RecursionError):  # FastAPI says no more than 400
        return problem_response(InvalidInput(f"the body can't be read as JSON in UTF-8: {_unreadable(reason)}"))
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    problem = Problem(title=str(error.detail), status=error.status_code, code=code, detail=str(error.detail))
    return ProblemResponse(problem.model_dump(mode="json"), status_code=error.status_code, headers=error.headers)


def _unreadable(reason: UnicodeDecodeError | RecursionError) -> str:
    if isinstance(reason, RecursionError):
        return "its lists or objects are nested too deeply"
    return f"byte {reason.start} is 0x{reason.object[reason.start]:02x}, {reason.reason}"


async def _on_exception(_request: Request, error: Exception) -> Response:
    log.error("unexpected error", exc_info=error)
    response = problem_response(NearfirstError("an unexpected error; the service's log has it"))
    response.headers.update(SECURITY_HEADERS)  # this answer comes from outside of all middleware
    return response
