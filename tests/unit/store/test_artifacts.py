import hashlib
from pathlib import Path

import pytest

from nearfirst.contracts.problems import CorruptArtifact, NotFound
from nearfirst.store.artifacts import Store


@pytest.fixture(params=["folder", "remote"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A local folder, and fsspec's memory filesystem in the place of an object store."""
    url = str(tmp_path / "store") if request.param == "folder" else f"memory://{tmp_path.name}"
    return Store(url, cache=tmp_path / "cache")


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_bytes_come_back_under_their_sha256(store: Store) -> None:
    stored = store.put_bytes(b"order")
    assert stored.digest == f"sha256:{hashlib.sha256(b'order').hexdigest()}"
    assert stored.size_bytes == 5
    assert store.local_path(stored.digest).read_bytes() == b"order"


def test_the_same_files_make_the_same_artifact_and_other_files_another(store: Store, tmp_path: Path) -> None:
    one, two = write(tmp_path / "1", b"1"), write(tmp_path / "2", b"2")
    artifact = store.put_artifact({"a": one, "b": two})
    assert store.put_artifact({"b": two, "a": one}) == artifact
    assert store.put_artifact({"a": two, "b": one}) != artifact
    assert store.artifact_file(artifact, "b").read_bytes() == b"2"


def test_a_file_that_the_artifact_has_not_is_not_found(store: Store, tmp_path: Path) -> None:
    artifact = store.put_artifact({"a": write(tmp_path / "1", b"1")})
    with pytest.raises(NotFound, match="'b'"):
        store.artifact_file(artifact, "b")


def test_an_unknown_digest_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound, match="sha256:00"):
        store.local_path("sha256:00")


def test_changed_bytes_are_found_when_they_are_read(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"), cache=tmp_path / "cache")
    stored = store.put_bytes(b"order")
    store.local_path(stored.digest).write_bytes(b"other")
    with pytest.raises(CorruptArtifact, match=stored.digest):
        store.local_path(stored.digest)
    assert store.local_path(stored.digest, verify=False).read_bytes() == b"other"


def test_a_file_that_vanishes_while_it_is_stored_leaves_nothing_behind(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"), cache=tmp_path / "cache")
    with pytest.raises(FileNotFoundError):
        store.put_file(tmp_path / "absent")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_an_artifact_with_a_damaged_file_counts_as_lost_once_a_reader_has_seen_it(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"), cache=tmp_path / "cache")
    file = write(tmp_path / "vectors", b"vectors")
    artifact = store.put_artifact({"vectors": file})
    path = store.artifact_file(artifact, "vectors")
    path.write_bytes(b"vectorz")
    assert store.has_artifact(artifact)
    with pytest.raises(CorruptArtifact):
        store.artifact_file(artifact, "vectors")
    assert not store.has_artifact(artifact)
    assert store.put_artifact({"vectors": file}) == artifact
    assert store.has_artifact(artifact)
    assert store.artifact_file(artifact, "vectors").read_bytes() == b"vectors"


def test_a_damaged_copy_of_a_remote_object_is_fetched_again(tmp_path: Path) -> None:
    store = Store(f"memory://{tmp_path.name}", cache=tmp_path / "cache")
    stored = store.put_bytes(b"order")
    store.local_path(stored.digest).write_bytes(b"odder")
    with pytest.raises(CorruptArtifact):
        store.local_path(stored.digest)
    assert store.local_path(stored.digest).read_bytes() == b"order"
