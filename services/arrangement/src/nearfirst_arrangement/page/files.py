"""The page's files, read once: addressed by the digest of all of them, so that browsers may keep them for good."""

import gzip
import hashlib
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

_MEDIA_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}
_INDEX = "index.html"
_ASSETS_MARK = "{assets}"
_PRELOADS_MARK = "<!-- preloads -->"
_SCRIPTS = {"core/first_paint.js", "vendor/uplot.js"}
"""No modules: the document names them."""


@dataclass(frozen=True, slots=True)
class PageFile:
    """One file as it is served."""

    content: bytes
    gzipped: bytes
    media_type: str
    etag: str


@dataclass(frozen=True, slots=True)
class PageFiles:
    """The whole page."""

    index: PageFile
    """The document at `/`; it names the others by their paths."""
    assets: dict[str, PageFile]
    """By path, which begins with `/assets/` and the digest of all files."""


def read_page_files() -> PageFiles:
    """All files of the page, compressed, and the document that loads them.

    Modules are named for preloading in the document, so that a browser asks for all of them at once instead of
    following one import after the other.
    """
    contents = dict(_contents(files("nearfirst_arrangement.page").joinpath("static")))
    template = contents.pop(_INDEX).decode()
    base = f"assets/{_digest_of_all(contents, template)}"
    modules = sorted(name for name in contents if name.endswith(".js") and name not in _SCRIPTS)
    preloads = "\n    ".join(f'<link rel="modulepreload" href="{base}/{name}">' for name in modules)
    document = template.replace(_ASSETS_MARK, base).replace(_PRELOADS_MARK, preloads)
    return PageFiles(
        index=_page_file(_INDEX, document.encode()),
        assets={f"/{base}/{name}": _page_file(name, content) for name, content in contents.items()},
    )


def _contents(folder: Traversable, prefix: str = "") -> list[tuple[str, bytes]]:
    """Name below the folder and content of every file in it, sorted by name."""
    found: list[tuple[str, bytes]] = []
    for entry in sorted(folder.iterdir(), key=lambda each: each.name):
        if entry.is_dir():
            found += _contents(entry, f"{prefix}{entry.name}/")
        elif entry.name.rpartition(".")[2] in _MEDIA_TYPES:
            found.append((f"{prefix}{entry.name}", entry.read_bytes()))
    return found


def _digest_of_all(contents: dict[str, bytes], template: str) -> str:
    digest = hashlib.sha256(template.encode())
    for name, content in contents.items():
        digest.update(f"\0{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def _page_file(name: str, content: bytes) -> PageFile:
    return PageFile(
        content=content,
        gzipped=gzip.compress(content, mtime=0),
        media_type=_MEDIA_TYPES[name.rpartition(".")[2]],
        etag=f'"{hashlib.sha256(content).hexdigest()[:32]}"',
    )
