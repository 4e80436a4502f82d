"""The servers that tests run against are real, and survive what campaigns do to them."""

import os
import threading
import time

import psycopg
import pytest
import redis
from sqlalchemy import create_engine, inspect, text
from tests.support import binaries
from tests.support.services import PostgresServer, RedisServer, ServerUnavailable


def _execute(url: str, statement: str) -> list[tuple[int, ...]]:
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            result = connection.execute(text(statement))
            return [tuple(row) for row in result] if result.returns_rows else []
    finally:
        engine.dispose()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_each_test_has_a_migrated_database_of_its_own(postgres_server: PostgresServer, database_url: str) -> None:
    engine = create_engine(database_url)
    tables = inspect(engine).get_table_names()
    engine.dispose()
    assert "alembic_version" in tables
    other = postgres_server.create_database()
    assert other != database_url
    postgres_server.drop_database(other)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(other.replace("+psycopg", ""))


def test_postgres_keeps_committed_rows_over_a_crash_and_a_restart() -> None:
    with PostgresServer() as server:
        url = server.create_database()
        _execute(url, "CREATE TABLE t AS SELECT 42 AS n")
        crashed = server.pid
        server.kill()
        assert not server.is_running
        server.start()
        assert server.pid != crashed
        assert _execute(url, "SELECT n FROM t") == [(42,)]
        server.restart()
        assert _execute(url, "SELECT n FROM t") == [(42,)]
        last, folder = server.pid, server.folder
    assert not folder.exists()
    assert not _is_alive(last)


def test_a_killed_postgres_leaves_no_busy_backend_behind() -> None:
    with PostgresServer() as server:
        with psycopg.connect(server.url().replace("+psycopg", ""), autocommit=True) as connection:
            backend = connection.info.backend_pid
            busy = threading.Thread(
                target=_expect_broken, args=(connection, "SELECT sum(n) FROM generate_series(1, 1e10) n")
            )
            busy.start()
            time.sleep(0.1)
            assert _is_alive(backend)
            server.kill()
            busy.join(timeout=5)
            assert not busy.is_alive()
        server.start()
        assert _execute(server.url(), "SELECT 1") == [(1,)]


def _expect_broken(connection: psycopg.Connection, statement: str) -> None:
    with pytest.raises(psycopg.OperationalError):
        connection.execute(statement.encode())


def test_redis_is_empty_after_a_flush_and_after_a_restart() -> None:
    with RedisServer() as server, redis.Redis.from_url(server.url()) as client:
        client.set("key", "value")
        server.flush()
        assert client.get("key") is None
        client.set("key", "value")
        server.restart()
        assert client.get("key") is None
        folder = server.folder
    assert not folder.exists()


def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "_has_postgres", lambda folder: False)
    with pytest.raises(ServerUnavailable, match=r"PostgreSQL .* isn't on this machine"):
        PostgresServer()
