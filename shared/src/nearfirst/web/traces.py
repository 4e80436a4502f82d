"""Each request is a span of the trace that its `traceparent` names, and its log lines have the trace's id."""

from opentelemetry.trace import SpanKind
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nearfirst.telemetry.tracing import span
from nearfirst.web.access import METRICS, PROBES


class RequestTraces:
    """ASGI middleware; probes make no spans."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["path"] in PROBES | {METRICS}:
            await self._app(scope, receive, send)
            return
        with span(scope["method"], Headers(scope=scope).get("traceparent"), SpanKind.SERVER) as current:

            async def noting_send(message: Message) -> None:
                if message["type"] == "http.response.start":
                    route = getattr(scope.get("route"), "path", "unknown")
                    current.update_name(f"{scope['method']} {route}")
                    current.set_attributes({"http.route": route, "http.response.status_code": message["status"]})
                await send(message)

            await self._app(scope, receive, noting_send)
