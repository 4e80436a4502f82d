"""API keys against the real application and registry: who may do what, and until when."""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import text
from tests.support.served import served
from typer.testing import CliRunner

from nearfirst.client.cli import build_app
from nearfirst.contracts.keys import Role
from nearfirst.registry.database import Database
from nearfirst.settings import Settings, get_settings
from nearfirst_arrangement.app import make_app

NewKey = Callable[[Role], dict[str, str]]
MakeClient = Callable[..., TestClient]
Guess = Callable[[str], Callable[[str], int]]

NO_RUN = "/train-jobs/job_0/cancel"
WHAT_ROLES_MAY = [
    ("GET", "/datasets", Role.READ),
    ("GET", "/train-jobs/job_0/metrics", Role.READ),
    ("GET", "/openapi.json", Role.READ),
    ("GET", "/no-such-route", Role.READ),
    ("POST", "/datasets", Role.SUBMIT),
    ("POST", "/arrangements", Role.SUBMIT),
    ("POST", NO_RUN, Role.SUBMIT),
    ("POST", "/train-jobs/job_0/resume", Role.SUBMIT),
    ("DELETE", "/datasets/ds_0", Role.SUBMIT),
    ("GET", "/keys", Role.ADMIN),
    ("POST", "/keys", Role.ADMIN),
    ("POST", "/keys/0/revoke", Role.ADMIN),
]


@pytest.mark.parametrize(("method", "path", "needed"), WHAT_ROLES_MAY)
def test_a_route_takes_keys_of_its_role_and_higher_alone(
    client: TestClient, new_key: NewKey, method: str, path: str, needed: Role
) -> None:
    allowed = {Role.READ: [], Role.SUBMIT: [], Role.ADMIN: []}
    for role in Role:
        answer = client.request(method, path, headers=new_key(role))
        allowed[role] = answer.status_code not in (401, 403)
        if not allowed[role]:
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
            assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]
    assert [role for role in Role if allowed[role]] == list(Role)[list(Role).index(needed) :]


@pytest.mark.parametrize(("method", "path", "_needed"), WHAT_ROLES_MAY)
def test_without_a_good_key_every_route_answers_401(
    client: TestClient, new_key: NewKey, method: str, path: str, _needed: Role
) -> None:
    good = new_key(Role.ADMIN)["Authorization"].removeprefix("Bearer ")
    key_id = good.split("_")[1]
    wrong = [None, "Bearer", "Bearer x", f"Basic {good}", f"Bearer nf_{key_id}_{'0' * 64}", f"Bearer {good[:-1]}"]
    for given in wrong:
        answer = client.request(method, path, headers={"Authorization": given} if given else {})
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized"), given
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.headers["content-type"] == "application/problem+json"


def test_probes_need_no_key_and_metrics_need_one_when_told_so(make_client: MakeClient, new_key: NewKey) -> None:
    key = new_key(Role.READ)
    for path in ("/healthz", "/readyz", "/metrics"):
        assert make_client().get(path).status_code == 200
    closed = make_client(metrics_need_key=True)
    assert [closed.get("/metrics").status_code, closed.get("/metrics", headers=key).status_code] == [401, 200]
    assert closed.get("/readyz").status_code == 200


def test_a_suite_without_keys_is_open_and_its_first_key_is_not_made_over_http(client: TestClient) -> None:
    assert client.get("/datasets").status_code == 200
    assert client.post(NO_RUN).status_code == 404
    answer = client.post("/keys", json={"name": "first come", "role": "admin"})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert "nearfirst key create" in answer.json()["detail"]


def test_the_first_key_closes_the_suite_and_revoking_the_last_one_does_not_open_it(
    client: TestClient, new_key: NewKey
) -> None:
    assert client.get("/datasets").status_code == 200
    admin = new_key(Role.ADMIN)
    time.sleep(0.4)  # key_cache_s of these clients is 0.3
    assert client.get("/datasets").status_code == 401
    (listed,) = client.get("/keys", headers=admin).json()["items"]
    revoked = client.post(f"/keys/{listed['id']}/revoke", headers=admin).json()
    assert revoked["revoked_at"] is not None
    time.sleep(0.4)
    assert client.get("/datasets", headers=admin).status_code == 401
    assert client.get("/datasets").status_code == 401


def test_a_revoked_key_ends_in_every_process_within_the_cache_time(make_client: MakeClient, new_key: NewKey) -> None:
    here, there = make_client(), make_client()
    admin, reader = new_key(Role.ADMIN), new_key(Role.READ)
    assert there.get("/datasets", headers=reader).status_code == 200
    reader_id = reader["Authorization"].split("_")[1]
    assert here.post(f"/keys/{reader_id}/revoke", headers=admin).status_code == 200
    time.sleep(0.4)
    assert there.get("/datasets", headers=reader).status_code == 401
    assert here.post("/keys/0/revoke", headers=admin).status_code == 404


def test_requests_in_a_row_cost_no_query_for_their_key(make_client: MakeClient, new_key: NewKey) -> None:
    key, client = new_key(Role.READ), make_client(key_cache_s=60.0)
    assert client.get("/datasets", headers=key).status_code == 200
    with _KeysAway(client.app.state.database):
        assert client.get("/datasets", headers=key).status_code == 200


def test_a_registry_that_cannot_be_asked_refuses_with_503(make_client: MakeClient, new_key: NewKey) -> None:
    key, client = new_key(Role.READ), make_client(key_cache_s=0.0, api_keys=[SecretStr("of the operator")])
    assert client.get("/datasets", headers=key).status_code == 200
    with _KeysAway(client.app.state.database):
        answer = client.get("/datasets", headers=key)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert client.get("/datasets", headers={"Authorization": "Bearer of the operator"}).status_code == 200


class _KeysAway:
    """The table of keys is away for a while."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def __enter__(self) -> None:
        self._rename("api_keys", "keys_that_are_away")

    def __exit__(self, *_: object) -> None:
        self._rename("keys_that_are_away", "api_keys")

    def _rename(self, old: str, new: str) -> None:
        with self._database.write() as session:
            session.execute(text(f"ALTER TABLE {old} RENAME TO {new}"))


def test_a_configured_key_is_an_admin_and_closes_the_suite_for_all_others(make_client: MakeClient) -> None:
    client = make_client(api_keys=[SecretStr("first"), SecretStr("schlüssel")])
    assert client.get("/datasets").status_code == 401
    assert client.get("/datasets", headers={"Authorization": "Bearer firs"}).status_code == 401
    for key in ("first", "schlüssel"):
        headers = {b"Authorization": f"bearer {key}".encode()}
        assert client.post("/keys", json={"name": key, "role": "read"}, headers=headers).status_code == 201


def test_the_registry_keeps_the_sha256_of_the_secret_and_not_the_key(client: TestClient, database: Database) -> None:
    made = _run_cli(database, "key", "create", "--role", "admin", "--name", "ops").strip()
    prefix, key_id, secret = made.split("_")
    assert (prefix, len(secret)) == ("nf", 64)
    with database.read() as session:
        rows = session.execute(text("SELECT * FROM api_keys")).mappings().all()
    assert [(row["id"], row["hash"]) for row in rows] == [(key_id, hashlib.sha256(secret.encode()).hexdigest())]
    assert secret not in str(rows)
    answer = client.post("/keys", json={"name": "x", "role": "read"}, headers={"Authorization": f"Bearer {made}"})
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")


def test_the_command_line_makes_lists_and_revokes_keys(client: TestClient, database: Database) -> None:
    made = _run_cli(database, "key", "create", "--role", "submit", "--name", "night jobs").strip()
    header = {"Authorization": f"Bearer {made}"}
    assert client.post(NO_RUN, headers=header).status_code == 404
    key_id = made.split("_")[1]
    listed = _run_cli(database, "key", "list")
    assert key_id in listed
    assert "night jobs" in listed
    assert made.split("_")[2] not in listed
    _run_cli(database, "key", "revoke", key_id)
    time.sleep(0.4)
    assert client.post(NO_RUN, headers=header).status_code == 401


def _run_cli(database: Database, *arguments: str) -> str:
    """Run `nearfirst` on a registry; returns what it printed."""
    get_settings.cache_clear()
    try:
        result = CliRunner().invoke(
            build_app(), arguments, env={"NEARFIRST_DATABASE_URL": database.url}, catch_exceptions=False
        )
    finally:
        get_settings.cache_clear()
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_last_use_of_a_key_is_written_down_once_in_a_while(client: TestClient, new_key: NewKey) -> None:
    admin, reader = new_key(Role.ADMIN), new_key(Role.READ)
    reader_id = reader["Authorization"].split("_")[1]

    def last_used() -> str | None:
        items = client.get("/keys", headers=admin).json()["items"]
        return next(item["last_used_at"] for item in items if item["id"] == reader_id)

    assert last_used() is None
    client.get("/datasets", headers=reader)
    first = last_used()
    assert first is not None
    time.sleep(0.4)
    client.get("/datasets", headers=reader)
    assert last_used() == first


def test_a_key_that_asks_too_often_is_told_when_to_come_back_and_others_are_not(
    make_client: MakeClient, new_key: NewKey
) -> None:
    client = make_client(requests_per_s=0.5, request_burst=3, api_keys=[SecretStr("of the operator")])
    busy, other = new_key(Role.READ), new_key(Role.READ)
    answers = [client.get("/datasets", headers=busy) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[-1].json()["code"] == "rate_limited"
    assert answers[-1].headers["retry-after"] == "2"
    assert client.get("/datasets", headers=other).status_code == 200
    operator = {"Authorization": "Bearer of the operator"}
    assert {client.get("/datasets", headers=operator).status_code for _ in range(10)} == {200}


def test_an_address_with_wrong_keys_is_stopped_while_good_keys_from_there_go_on(
    make_client: MakeClient, new_key: NewKey
) -> None:
    client, good = make_client(refusals_per_minute=5, key_cache_s=60.0), new_key(Role.READ)
    assert client.get("/datasets", headers=good).status_code == 200
    guesses = [
        client.get("/datasets", headers={"Authorization": f"Bearer nf_{guess:016x}_{guess:064x}"}).status_code
        for guess in range(8)
    ]
    assert sorted(set(guesses)) == [401, 429]
    assert guesses[-1] == 429
    assert client.get("/datasets", headers=good).status_code == 200
    assert client.get("/datasets").status_code == 401


GUESS = {"Authorization": f"Bearer nf_{'0' * 16}_{'0' * 64}"}


@pytest.fixture
def guess(database_url: str, tmp_path: Path, new_key: NewKey, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guess]:
    """Sends a wrong key through uvicorn, which trusts the given proxies, as if for an address; returns the status."""
    new_key(Role.ADMIN)
    with ExitStack() as opened:

        def served_behind(proxies: str) -> Callable[[str], int]:
            monkeypatch.setenv("FORWARDED_ALLOW_IPS", proxies)
            settings = Settings(home=tmp_path, database_url=database_url, refusals_per_minute=3)
            url = opened.enter_context(served(make_app(settings)))
            return lambda forwarded: (
                httpx.get(f"{url}/datasets", headers=GUESS | {"X-Forwarded-For": forwarded}).status_code
            )

        yield served_behind


def test_a_forwarded_address_from_who_is_no_proxy_is_ignored(guess: Guess) -> None:
    send = guess("10.0.0.0/8")
    assert [send(f"203.0.113.{n}") for n in range(5)] == [401, 401, 401, 429, 429]


def test_a_forwarded_address_from_the_proxy_is_who_is_counted_and_not_what_he_says_before_it(guess: Guess) -> None:
    send = guess("127.0.0.0/8")
    assert [send("203.0.113.1") for _ in range(4)] == [401, 401, 401, 429]
    assert send("203.0.113.2") == 401
    assert [send(f"198.51.100.{n}, 203.0.113.1") for n in range(2)] == [429, 429]


def test_an_idempotency_key_finds_no_run_of_another_owner(client: TestClient, new_key: NewKey, tmp_path: Path) -> None:
    first, second = new_key(Role.SUBMIT), new_key(Role.SUBMIT)
    rows = b'{"instruction": "Say hi.", "output": "Hi."}\n'
    dataset = client.post("/datasets", files={"file": ("pool.jsonl", rows)}, headers=first).json()["id"]
    body = {"train": {"dataset": dataset}, "test": {"dataset": dataset}, "method": "random"}

    def post(owner: dict[str, str], **changed: object) -> tuple[int, str]:
        answer = client.post("/arrangements", json=body | changed, headers=owner | {"Idempotency-Key": "nightly"})
        return answer.status_code, answer.json().get("id") or answer.json()["detail"]

    status, mine = post(first)
    assert status == 202, mine
    assert post(first) == (202, mine)
    status, theirs = post(second, seed=7)  # another body: an owner's own replay of it would conflict
    assert status == 202
    assert theirs != mine
    assert post(second, seed=7) == (202, theirs)
    status, detail = post(first, seed=7)
    assert status == 409
    assert "'nightly'" in detail
    assert theirs not in detail
