"""Errors as answers: application/problem+json (RFC 9457)."""

from fastapi.responses import JSONResponse

from nearfirst.contracts.problems import NearfirstError


class ProblemResponse(JSONResponse):
    """An RFC 9457 answer."""

    media_type = "application/problem+json"


def problem_response(error: NearfirstError) -> ProblemResponse:
    """An error as an answer."""
    headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else None
    return ProblemResponse(error.problem().model_dump(mode="json"), status_code=error.status, headers=headers)
