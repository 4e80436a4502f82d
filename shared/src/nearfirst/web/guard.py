"""No route without a key of a sufficient role, once there is a key; how often a key may ask."""

import logging
import math

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from nearfirst.contracts.keys import Role
from nearfirst.contracts.problems import Forbidden, NearfirstError, RateLimited, Unauthorized
from nearfirst.logs import redact
from nearfirst.registry.api_keys import split_key
from nearfirst.settings import Settings
from nearfirst.web.access import AccessRules
from nearfirst.web.keys import ANYONE, OPERATOR, Caller, KeyRing, is_configured_key
from nearfirst.web.problems import problem_response
from nearfirst.web.rates import RateLimiter

log = logging.getLogger(__name__)


class KeyGuard:
    """ASGI middleware: refuses before the body is read, or leaves who asks in `request.state.caller`."""

    def __init__(self, app: ASGIApp, *, settings: Settings, ring: KeyRing, rules: AccessRules) -> None:
        self._app = app
        self._settings = settings
        self._ring = ring
        self._rules = rules
        self._of_keys = RateLimiter(settings.requests_per_s, settings.request_burst)
        self._of_strangers = RateLimiter(settings.refusals_per_minute / 60, settings.refusals_per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        needed = self._needed_role(scope) if scope["type"] == "http" else None
        if needed is None:
            await self._app(scope, receive, send)
            return
        try:
            caller = await self._admitted(scope, needed)
        except NearfirstError as error:
            log.info("refused %s %r: %s", scope["method"], redact(scope["path"]), error.detail)
            response = problem_response(error)
            response.headers["Connection"] = "close"  # the body is not read
            await response(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, receive, send)

    def _needed_role(self, scope: Scope) -> Role | None:
        return self._rules.needed_role(scope["method"], scope["path"].removeprefix(scope.get("root_path", "")))

    async def _admitted(self, scope: Scope, needed: Role) -> Caller:
        """Who asks, and may.

        Raises:
            Unauthorized, Forbidden, RateLimited, Unavailable.
        """
        caller = await self._caller(_bearer_token(scope), _address(scope))
        if not caller.role.includes(needed):
            raise Forbidden(f"this needs a key of the role {needed}; key {caller.owner} has the role {caller.role}")
        return caller

    async def _caller(self, token: str | None, address: str) -> Caller:
        if token is not None and is_configured_key(token, self._settings.api_keys):
            return OPERATOR
        is_like_ours = token is not None and split_key(token) is not None
        if (is_like_ours or not self._settings.api_keys) and not await self._has_registry_keys():
            is_like_ours = False
            if not self._settings.api_keys:
                return ANYONE
        if token is None:
            raise Unauthorized("this needs an API key: send the header `Authorization: Bearer KEY`")
        caller = self._ring.known_caller(token) if is_like_ours else None
        if caller is None:
            caller = await self._looked_up(token, address)
        if wait_s := self._of_keys.take(caller.owner):
            raise _rate_limited(f"key {caller.owner} may ask {self._settings.requests_per_s:g} times a second", wait_s)
        if self._ring.must_note_use(caller):
            await run_in_threadpool(self._ring.note_use, caller)
        return caller

    async def _has_registry_keys(self) -> bool:
        # A query may wait for the database, and must not hold up the event loop.
        return self._ring.has_keys() if self._ring.is_fresh else await run_in_threadpool(self._ring.has_keys)

    async def _looked_up(self, token: str, address: str) -> Caller:
        """Who holds a key that isn't known: a new one, or none. Each try costs the address a token of its bucket."""
        if wait_s := self._of_strangers.take(address):
            raise _rate_limited("too many requests with a wrong API key came from this address", wait_s)
        caller = await run_in_threadpool(self._ring.caller, token) if split_key(token) else None
        if caller is None:
            raise Unauthorized("this API key is unknown or was revoked")
        return caller


def _bearer_token(scope: Scope) -> str | None:
    scheme, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else "unknown"


def _rate_limited(reason: str, wait_s: float) -> RateLimited:
    return RateLimited(f"{reason}; try again in {wait_s:.1f} s", retry_after_s=math.ceil(wait_s))
