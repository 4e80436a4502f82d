"""Debian's Chromium, driven by Playwright; a page that breaks a promise fails its test."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Playwright, Request

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def launch(playwright: Playwright) -> Browser:
    """The browser, without a profile."""
    return playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)


@dataclass
class Complaints:
    """What a page did that it must not."""

    origin: str
    found: list[str] = field(default_factory=list)
    tolerated: tuple[str, ...] = ()
    """Parts of console messages that a test provokes: a browser itself reports each answer that isn't 2xx."""
    network_changes: int = 0
    """Requests that Chromium gave up because an interface of this machine came or went: no fault of the page."""

    def watch(self, page: Page) -> None:
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.found.append(f"uncaught: {error}"))
        page.on("request", self._on_request)

    def _on_console(self, message: ConsoleMessage) -> None:
        if "ERR_NETWORK_CHANGED" in message.text:
            self.network_changes += 1
        elif message.type in ("error", "warning") and not any(part in message.text for part in self.tolerated):
            self.found.append(f"console {message.type}: {message.text}")

    def _on_request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("blob", "data") and f"{parts.scheme}://{parts.netloc}" != self.origin:
            self.found.append(f"request to another origin: {request.url}")


@contextmanager
def opened(context: BrowserContext, origin: str, *tolerated: str) -> Iterator[tuple[Page, Complaints]]:
    """A page of the context; what it did wrong meanwhile fails the test at the end."""
    page = context.new_page()
    complaints = Complaints(origin, tolerated=tolerated)
    complaints.watch(page)
    yield page, complaints
    page.close()
    assert complaints.found == []
