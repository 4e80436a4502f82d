"""Bodies over the limit are refused with 413, whether they announce their size or not."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nearfirst.contracts.problems import BodyTooLarge
from nearfirst.web.problems import problem_response


class BodyLimit:
    """ASGI middleware: counts what arrives, and answers 413 in place of the application once it is too much."""

    def __init__(
        self, app: ASGIApp, *, limit_bytes: int, upload_limit_bytes: int, upload_paths: frozenset[str]
    ) -> None:
        self._app = app
        self._limit_bytes = limit_bytes
        self._upload_limit_bytes = upload_limit_bytes
        self._upload_paths = upload_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        is_upload = scope["path"] in self._upload_paths and headers.get(b"content-type", b"").startswith(b"multipart/")
        limit = self._upload_limit_bytes if is_upload else self._limit_bytes
        announced = headers.get(b"content-length", b"")
        if announced.isdigit() and int(announced) > limit:
            await _refuse(f"the body has {int(announced)} bytes", limit, scope, receive, send)
            return
        counted = 0
        has_refused = False

        async def counting_receive() -> Message:
            nonlocal counted
            message = await receive()
            if message["type"] == "http.request":
                counted += len(message.get("body", b""))
                if counted > limit:
                    raise _TooMuch
            return message

        async def guarded_send(message: Message) -> None:
            # The framework answers 400 when reading the body raises; the true reason goes out instead.
            nonlocal has_refused
            if counted <= limit:
                await send(message)
            elif not has_refused:
                has_refused = True
                await _refuse(f"the body has more than {limit} bytes", limit, scope, receive, send)

        try:
            await self._app(scope, counting_receive, guarded_send)
        except _TooMuch:
            if not has_refused:
                await _refuse(f"the body has more than {limit} bytes", limit, scope, receive, send)


class _TooMuch(Exception):
    """More bytes came than the limit."""


async def _refuse(found: str, limit: int, scope: Scope, receive: Receive, send: Send) -> None:
    response = problem_response(BodyTooLarge(f"{found}; at most {limit} are taken"))
    response.headers["Connection"] = "close"  # the rest of the body is not read
    await response(scope, receive, send)
