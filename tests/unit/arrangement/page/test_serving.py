"""The page as the API serves it: small, cacheable, closed to every other origin, open without a key."""

import gzip
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

import nearfirst_arrangement.page
from nearfirst.contracts.keys import Role
from nearfirst.registry.api_keys import create_key
from nearfirst.registry.database import Database
from nearfirst.registry.migrate import upgrade
from nearfirst.settings import Settings
from nearfirst_arrangement.app import make_app

STATIC = Path(nearfirst_arrangement.page.__file__).parent / "static"
MOST_BYTES = 500_000
HARMLESS_URLS = ("http://www.w3.org/", "https://github.com/leeoniya/uPlot")
"""Names of XML namespaces, and a comment."""


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inline: list[str] = []
        self._is_script = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.found += [value for name in ("href", "src") if (value := given.get(name))]
        self.inline += [name for name in given if name.startswith("on") or name == "style"]
        self._is_script = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._is_script = False

    def handle_data(self, data: str) -> None:
        if self._is_script and data.strip():
            self.inline.append(data)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    found = Settings(home=tmp_path_factory.mktemp("home"))
    upgrade(found.database_url)
    database = Database(found.database_url)
    with database.write() as session:
        create_key(session, "somebody", Role.READ)
    database.close()
    return found


@pytest.fixture(scope="module")
def client(settings: Settings) -> Iterator[TestClient]:
    """Of a suite that has a key; requests come without."""
    with TestClient(make_app(settings)) as opened:
        yield opened


@pytest.fixture(scope="module")
def links(client: TestClient) -> list[str]:
    parser = Links()
    parser.feed(client.get("/").text)
    return parser.found


def test_the_page_and_its_files_need_no_key_and_the_data_does(client: TestClient, links: list[str]) -> None:
    assert client.get("/").status_code == 200
    assert {client.get(f"/{link}").status_code for link in links} == {200}
    assert client.get("/datasets").status_code == 401
    assert client.get("/events").status_code == 401


@pytest.mark.parametrize("path", ["/assets/", "/assets/../datasets", "/assets/0/main.js", "/assets/%2e%2e/datasets"])
def test_nothing_else_below_the_assets_is_open(client: TestClient, path: str) -> None:
    assert client.get(path).status_code in (401, 404)


def test_every_module_that_the_page_imports_is_named_in_the_document(client: TestClient, links: list[str]) -> None:
    served = {link.split("/", 2)[2] for link in links}
    stored = {str(path.relative_to(STATIC)) for path in STATIC.rglob("*") if path.suffix in (".js", ".css", ".svg")}
    assert served == stored


def test_every_import_leads_to_a_file() -> None:
    for path in STATIC.rglob("*.js"):
        if "vendor" in path.parts:
            continue
        for target in re.findall(
            r'^(?:import|export|\}) .*?from "(\..*?)";|^import "(\..*?)";', path.read_text(), re.M
        ):
            assert (path.parent / "".join(target)).resolve().is_file(), f"{path}: {target}"


def test_the_document_names_no_other_origin_and_has_nothing_inline(client: TestClient, links: list[str]) -> None:
    parser = Links()
    parser.feed(client.get("/").text)
    assert parser.inline == []
    assert all(re.fullmatch(r"assets/[0-9a-f]{16}/[\w./-]+", link) for link in links)


def test_no_file_names_another_host() -> None:
    for path in STATIC.rglob("*"):
        if path.suffix in (".js", ".css", ".svg", ".html"):
            named = re.findall(r"(?:https?:)?//[a-z0-9-]+\.[^\s\"'`)]+", path.read_text())
            assert [url for url in named if not url.startswith(HARMLESS_URLS)] == [], path


def test_no_module_makes_code_or_markup_of_text() -> None:
    dangerous = r"\beval\(|new Function|innerHTML|outerHTML|insertAdjacentHTML|dangerouslySetInnerHTML|document\.write"
    for path in STATIC.rglob("*.js"):
        if "vendor" not in path.parts:
            assert re.findall(dangerous, path.read_text()) == [], path
            assert not re.search(r'\sstyle="', path.read_text()), path


def test_modules_are_short() -> None:
    for path in [*STATIC.rglob("*.js"), *STATIC.rglob("*.css")]:
        if "vendor" not in path.parts:
            most = 300 if path.suffix == ".js" else 600
            assert len(path.read_text().splitlines()) < most, path


def test_the_policy_lets_nothing_in_from_elsewhere(client: TestClient) -> None:
    policy = client.get("/").headers["content-security-policy"]
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == directives["base-uri"] == directives["frame-ancestors"] == "'none'"
    assert directives["form-action"] == "'none'"
    assert directives["script-src"] == directives["style-src"] == directives["connect-src"] == "'self'"
    assert "unsafe" not in policy
    assert "*" not in policy


def test_the_policy_is_the_same_on_every_file(client: TestClient, links: list[str]) -> None:
    policy = client.get("/").headers["content-security-policy"]
    for link in links:
        headers = client.get(f"/{link}").headers
        assert headers["content-security-policy"] == policy
        assert headers["x-content-type-options"] == "nosniff"


def test_all_of_it_is_small(client: TestClient, links: list[str]) -> None:
    sizes = {link: len(client.get(f"/{link}").content) for link in ["", *links]}
    assert sum(sizes.values()) < MOST_BYTES, sizes


def test_files_are_kept_for_good_and_the_document_is_asked_for_again(client: TestClient, links: list[str]) -> None:
    assert client.get("/").headers["cache-control"] == "no-cache"
    assert all("immutable" in client.get(f"/{link}").headers["cache-control"] for link in links)


def test_what_a_browser_has_is_not_sent_again(client: TestClient, links: list[str]) -> None:
    for path in ["/", *(f"/{link}" for link in links)]:
        etag = client.get(path).headers["etag"]
        again = client.get(path, headers={"If-None-Match": etag})
        assert (again.status_code, again.content) == (304, b"")
        assert client.get(path, headers={"If-None-Match": '"another"'}).status_code == 200


def test_it_is_compressed_for_those_who_take_it(client: TestClient) -> None:
    with client.stream("GET", "/", headers={"Accept-Encoding": "gzip"}) as answer:
        assert answer.headers["content-encoding"] == "gzip"
        compressed = b"".join(answer.iter_raw())
    plain = client.get("/", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert gzip.decompress(compressed) == plain.content


def test_head_is_answered_without_a_body(client: TestClient) -> None:
    answer = client.head("/")
    assert (answer.status_code, answer.content) == (200, b"")


def test_the_api_document_is_of_the_api_alone(settings: Settings) -> None:
    paths = make_app(settings).openapi()["paths"]
    assert "/" not in paths
    assert not [path for path in paths if path.startswith("/assets")]
