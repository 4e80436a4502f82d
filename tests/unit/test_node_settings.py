"""Settings of node groups, from variables."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import ValidationError

from nearfirst.settings import Settings

GROUP = {"NEARFIRST_NODES": "3", "NEARFIRST_NODE_GROUP": "big", "NEARFIRST_RENDEZVOUS": "big-0.big:29400"}


def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str]) -> Settings:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return Settings(home=tmp_path)


def test_the_index_is_that_of_the_pod_unless_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings(tmp_path, monkeypatch, GROUP).node_index == 0
    assert settings(tmp_path, monkeypatch, {"JOB_COMPLETION_INDEX": "2"}).node_index == 2
    given = settings(tmp_path, monkeypatch, {"NEARFIRST_NODE_INDEX": "1"})
    assert given.node_index == 1
    assert given.as_environment()["NEARFIRST_NODE_INDEX"] == "1"


def test_a_pod_of_any_indexed_job_that_is_no_group_is_one_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings(tmp_path, monkeypatch, {"JOB_COMPLETION_INDEX": "7"}).nodes == 1


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"NEARFIRST_NODE_INDEX": "3"}, "node_index 3 of nodes 3: wanted at most 2"),
        ({"NEARFIRST_NODE_GROUP": ""}, "nodes 3 wants node_group to be given"),
        ({"NEARFIRST_NODE_GROUP": "", "NEARFIRST_RENDEZVOUS": ""}, "nodes 3 wants node_group and rendezvous"),
        ({"NEARFIRST_RENDEZVOUS": "big-0"}, "rendezvous"),
    ],
)
def test_a_group_that_could_not_meet_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, str], reason: str
) -> None:
    with pytest.raises(ValidationError, match=reason):
        settings(tmp_path, monkeypatch, GROUP | wrong)
