"""Groups of pods that train together: they find each other, come back, and are replaced as a whole."""

import importlib.util
from typing import Any

import pytest
from tests.support.chart import Chart, Manifest, named, of_kind, pod_templates, selected_by, variables

from nearfirst.settings import Settings

SERVICE = "nearfirst-gpu32-group"


def group_job(manifests: list[Manifest]) -> Manifest:
    (job,) = [job for job in of_kind(manifests, "Job") if job["spec"]["template"]["spec"].get("subdomain")]
    return job


@pytest.fixture
def job(cluster: list[Manifest]) -> Manifest:
    """The Job of the example's group of four pods."""
    return group_job(cluster)


def test_every_index_has_a_pod_at_the_same_time(job: Manifest) -> None:
    spec = job["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 4, 4)


def test_a_lost_pod_comes_back_when_the_old_one_has_left_its_gpus(job: Manifest) -> None:
    assert job["spec"]["template"]["spec"]["restartPolicy"] == "OnFailure"
    assert job["spec"]["backoffLimit"] == 2**31 - 1  # the most that the API takes
    assert job["spec"]["podReplacementPolicy"] == "Failed"
    assert not job["spec"].keys() & {"activeDeadlineSeconds", "ttlSecondsAfterFinished"}


def test_each_pod_has_its_gpus_shared_memory_and_the_time_to_save_its_state(job: Manifest) -> None:
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == {"cpu": "96", "memory": "1024Gi", "nvidia.com/gpu": 8}
    assert variables(container)["NEARFIRST_GPUS"] == "0,1,2,3,4,5,6,7"
    (memory,) = [volume for volume in pod["volumes"] if volume["name"] == "shared-memory"]
    assert memory["emptyDir"] == {"medium": "Memory", "sizeLimit": "64Gi"}
    assert pod["terminationGracePeriodSeconds"] > int(variables(container)["NEARFIRST_SAVE_GRACE_S"]) == 300
    assert {"name": "shared", "mountPath": "/shared", "readOnly": False} in container["volumeMounts"]


def test_the_first_pod_has_a_name_that_the_others_can_ask_for_before_it_is_ready(
    job: Manifest, cluster: list[Manifest]
) -> None:
    service = named(cluster, "Service", SERVICE)["spec"]
    assert (service["clusterIP"], service["publishNotReadyAddresses"]) == ("None", True)
    assert selected_by(service["selector"], cluster) == [SERVICE]
    pod = job["spec"]["template"]["spec"]
    assert (pod["subdomain"], "hostname" in pod) == (SERVICE, False)
    # Kubernetes calls the pods of an indexed Job JOB-INDEX.
    host, _, port = variables(pod["containers"][0])["NEARFIRST_RENDEZVOUS"].partition(":")
    assert host == f"{job['metadata']['name']}-0.{SERVICE}"
    assert [int(port)] == [each["port"] for each in service["ports"]]


def test_the_programs_know_their_place(job: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["command"][:3] == ["python", "-m", "nearfirst_training.node"]
    assert importlib.util.find_spec("nearfirst_training.node") is not None
    for name, value in variables(container).items():
        monkeypatch.setenv(name, value)
    for index in range(4):
        monkeypatch.setenv("JOB_COMPLETION_INDEX", str(index))
        settings = Settings()
        assert (settings.nodes, settings.node_index) == (4, index)
        assert settings.node_group == job["metadata"]["name"]


@pytest.mark.parametrize(
    ("changed", "values"),
    [
        (False, {"keda": {"pollingSeconds": 20}}),
        (True, {"images": {"tag": "0.2.0"}}),
        (True, {"multiNode": {"gpu32": {"nodes": 2}}}),
        (True, {"multiNode": {"gpu32": {"env": {"NEARFIRST_LEASE_S": "60"}}}}),
    ],
)
def test_a_job_whose_pods_would_change_gets_another_name_because_no_job_can_be_changed(
    chart: Chart, job: Manifest, changed: bool, values: dict[str, Any]
) -> None:
    again = group_job(chart.render("gpu-cluster", values=values))
    assert (again["metadata"]["name"] != job["metadata"]["name"]) is changed


def test_the_longest_names_are_names_of_hosts(chart: Chart) -> None:
    group = {"nodes": 256, "resources": {"requests": {}, "limits": {}}}
    manifests = chart.render("cpu-only", release="a" * 23, values={"nameOverride": "a", "multiNode": {"b" * 15: group}})
    assert len(f"{group_job(manifests)['metadata']['name']}-255") <= 63


def test_a_group_neither_is_a_pool_nor_changes_what_pools_are_scaled_by(chart: Chart, cluster: list[Manifest]) -> None:
    smaller = chart.render("gpu-cluster", values={"multiNode": {"gpu32": {"gpus": 4}}})
    for scaled in of_kind(cluster, "ScaledObject"):
        assert named(smaller, "ScaledObject", scaled["metadata"]["name"]) == scaled
        assert "gpu32" not in str(scaled)


def test_without_groups_there_is_no_job_but_the_migration(chart: Chart) -> None:
    manifests = chart.render("cpu-only")
    assert [job["metadata"]["name"] for job in of_kind(manifests, "Job")] == ["nearfirst-migrate"]
    assert "nearfirst-gpu32-group" not in pod_templates(manifests)
