"""`nearfirst up`: what it refuses before anything is started."""

import socket
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from nearfirst.client.errors import NotInstalled
from nearfirst.contracts.problems import InvalidInput, StateConflict
from nearfirst_arrangement import up as up_module
from nearfirst_arrangement.up import thread_limit, up


def test_an_embedding_server_that_is_not_installed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_servers(*, group: str, name: str = "") -> list[EntryPoint]:
        return []

    monkeypatch.setattr(up_module, "entry_points", without_servers)
    with pytest.raises(NotInstalled, match="--embedding-port wants the embedding service, which isn't installed"):
        up(home=tmp_path, port=18_000, embedding_port=18_001)


def test_one_port_for_both_servers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="--embedding-port: got 18000, which is the API's own port"):
        up(home=tmp_path, port=18_000, embedding_port=18_000)


def test_an_embedding_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.socket() as free, socket.socket() as taken:
        for listener in (free, taken):
            listener.bind(("127.0.0.1", 0))
        taken.listen()
        port, taken_port = free.getsockname()[1], taken.getsockname()[1]
        free.close()
        with pytest.raises(StateConflict, match=f"port {taken_port}: .*in use"):
            up(home=tmp_path, port=port, embedding_port=taken_port)


@pytest.mark.parametrize(
    ("process", "training_workers", "threads"),
    [("training", 1, None), ("training", 4, "2"), ("loss", 8, "1"), ("training", 16, "1"), ("embedding", 4, None)],
)
def test_trainings_share_the_cores_and_embedding_which_comes_before_them_takes_all(
    monkeypatch: pytest.MonkeyPatch, process: str, training_workers: int, threads: str | None
) -> None:
    monkeypatch.setattr(up_module.os, "cpu_count", lambda: 8)
    assert thread_limit(process, training_workers).get("OMP_NUM_THREADS") == threads
