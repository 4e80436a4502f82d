"""A path that a user names stays inside the allowed folders."""

from pathlib import Path

import pytest

from nearfirst.contracts.problems import PathNotAllowed
from nearfirst.data.paths import resolve_under_root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An allowed folder with a file; a secret lies beside it."""
    (tmp_path / "root" / "sub").mkdir(parents=True)
    (tmp_path / "root" / "data.jsonl").write_text("{}")
    (tmp_path / "secret.jsonl").write_text("{}")
    (tmp_path / "root-evil").mkdir()
    (tmp_path / "root-evil" / "x.jsonl").write_text("{}")
    return tmp_path / "root"


@pytest.mark.parametrize("path", ["data.jsonl", "sub/../data.jsonl", "./data.jsonl", "{root}/data.jsonl"])
def test_a_path_inside_the_root_is_resolved(root: Path, path: str) -> None:
    assert resolve_under_root(path.format(root=root), [root]) == root.resolve() / "data.jsonl"


@pytest.mark.parametrize(
    "path",
    ["../secret.jsonl", "sub/../../secret.jsonl", "{root}/../secret.jsonl", "/etc/passwd", "../root-evil/x.jsonl"],
)
def test_a_path_that_leads_outside_is_refused(root: Path, path: str) -> None:
    with pytest.raises(PathNotAllowed, match="leads outside the allowed folders"):
        resolve_under_root(path.format(root=root), [root])


@pytest.mark.parametrize("path", ["link.jsonl", "folder/secret.jsonl", "chain"])
def test_a_link_that_leads_outside_is_refused(root: Path, path: str) -> None:
    (root / "link.jsonl").symlink_to(root.parent / "secret.jsonl")
    (root / "folder").symlink_to(root.parent, target_is_directory=True)
    (root / "chain").symlink_to("link.jsonl")
    with pytest.raises(PathNotAllowed):
        resolve_under_root(path, [root])


def test_a_link_inside_the_root_and_a_root_that_is_a_link_are_followed(root: Path, tmp_path: Path) -> None:
    (root / "alias").symlink_to("data.jsonl")
    (tmp_path / "entry").symlink_to(root, target_is_directory=True)
    assert resolve_under_root("alias", [tmp_path / "entry"]) == root.resolve() / "data.jsonl"
    assert resolve_under_root(str(tmp_path / "entry" / "data.jsonl"), [root]) == root.resolve() / "data.jsonl"


def test_the_first_root_that_has_the_file_wins(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    assert resolve_under_root("data.jsonl", [other, root]) == root.resolve() / "data.jsonl"
    assert resolve_under_root("new.jsonl", [other, root]) == other.resolve() / "new.jsonl"


@pytest.mark.parametrize("path", ["loop", "a\0b", "x" * 5000])
def test_a_path_that_cannot_be_resolved_is_refused(root: Path, path: str) -> None:
    (root / "loop").symlink_to("loop")
    with pytest.raises(PathNotAllowed):
        resolve_under_root(path, [root])


def test_without_roots_nothing_is_allowed(root: Path) -> None:
    with pytest.raises(PathNotAllowed, match="no folder that paths may name"):
        resolve_under_root(str(root / "data.jsonl"), [])
