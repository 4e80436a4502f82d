"""Errors as answers: application/problem+json (RFC 9457)."""

import json
from typing import Any

from fastapi.responses import JSONResponse

from nearfirst.contracts.problems import Forbidden, NearfirstError, Problem, TooManyRequests, Unauthorized


class ProblemResponse(JSONResponse):
    """An RFC 9457 answer."""

    media_type = "application/problem+json"

    def render(self, content: Any) -> bytes:
        """ASCII alone: an error may quote what UTF-8 can't hold."""
        return json.dumps(content).encode()


PROBLEM_ANSWER: dict[str, Any] = {
    "description": "An error",
    "content": {"application/problem+json": {"schema": Problem.model_json_schema(mode="serialization")}},
}
"""What every endpoint declares for its errors."""


def problem_response(error: NearfirstError) -> ProblemResponse:
    """An error as an answer, with the headers that belong to its status (RFC 6750, RFC 9110)."""
    headers: dict[str, str] = {}
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = 'Bearer realm="nearfirst"'
    elif isinstance(error, Forbidden):
        headers["WWW-Authenticate"] = 'Bearer realm="nearfirst", error="insufficient_scope"'
    elif isinstance(error, TooManyRequests):
        headers["Retry-After"] = str(error.retry_after_s)
    return ProblemResponse(error.problem().model_dump(mode="json"), status_code=error.status, headers=headers)
