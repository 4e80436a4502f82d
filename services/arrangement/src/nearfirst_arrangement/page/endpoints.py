"""GET / and the files that it loads. They say nothing of anybody's data, so they need no key."""

from fastapi import APIRouter, Request, Response

from nearfirst.contracts.problems import NotFound
from nearfirst_arrangement.page.files import PageFile, PageFiles

_METHODS = ["GET", "HEAD"]
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
_REVALIDATE = "no-cache"
_FOR_GOOD = "public, max-age=31536000, immutable"


def open_paths(page: PageFiles) -> frozenset[str]:
    """The paths that `make_router` answers with 200, for the guard to let through without a key."""
    return frozenset({"/", *page.assets})


def make_router(page: PageFiles) -> APIRouter:
    """Routes of the page. They aren't in the OpenAPI document, which describes the API."""
    router = APIRouter(include_in_schema=False)

    @router.api_route("/", methods=_METHODS)
    async def get_page(request: Request) -> Response:
        """The document, asked for anew each time: it names the files of this version."""
        return _answer(request, page.index, _REVALIDATE)

    @router.api_route("/assets/{path:path}", methods=_METHODS)
    async def get_asset(request: Request, path: str) -> Response:
        """A file of the page, whose path changes with any of them."""
        file = page.assets.get(f"/assets/{path}")
        if file is None:
            raise NotFound("the page has no such file in this version; load the page again")
        return _answer(request, file, _FOR_GOOD)

    return router


def _answer(request: Request, file: PageFile, caching: str) -> Response:
    headers = {
        "Cache-Control": caching,
        "Content-Security-Policy": _POLICY,
        "Content-Type": file.media_type,
        "ETag": file.etag,
        "Vary": "Accept-Encoding",
    }
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(file.gzipped, headers=headers | {"Content-Encoding": "gzip"})
    return Response(file.content, headers=headers)
