"""What holds for every pod: the `restricted` profile, images, probes, resources, and secrets by reference only."""

import importlib.util
import json
import tomllib

import pytest
from tests.support.chart import (
    CHART,
    Chart,
    Manifest,
    containers,
    named,
    of_kind,
    pod_templates,
    secret_variables,
    variables,
)

from nearfirst.settings import Settings

ALIVE = "nearfirst.queue.alive"
SECRETS = {
    "PGPASSWORD",
    "NEARFIRST_BROKER_URL",
    "NEARFIRST_API_KEYS",
    "NEARFIRST_GENERATION_API_KEY",
    "NEARFIRST_SCORING_API_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "HF_TOKEN",
}
ALLOWED_VOLUMES = {"emptyDir", "persistentVolumeClaim"}


def only_container(manifests: list[Manifest], name: str) -> Manifest:
    (container,) = named(manifests, "Deployment", name)["spec"]["template"]["spec"]["containers"]
    return container


def test_every_pod_passes_the_restricted_profile(manifests: list[Manifest]) -> None:
    for name, template in pod_templates(manifests).items():
        pod = template["spec"]
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True, name
        assert context["runAsUser"] == context["runAsGroup"] == context["fsGroup"] == 10001, name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not pod.keys() & {"hostNetwork", "hostPID", "hostIPC"}, name
        assert {kind for volume in pod["volumes"] for kind in volume.keys() - {"name"}} <= ALLOWED_VOLUMES, name
    for name, container in containers(manifests):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False, name
        assert context["readOnlyRootFilesystem"] is True, name
        assert context["capabilities"] == {"drop": ["ALL"]}, name
        assert "privileged" not in context, name
        assert not any("hostPort" in port for port in container.get("ports", [])), name


def test_no_pod_can_speak_to_kubernetes(manifests: list[Manifest]) -> None:
    accounts = {m["metadata"]["name"]: m for m in of_kind(manifests, "ServiceAccount")}
    assert all(account["automountServiceAccountToken"] is False for account in accounts.values())
    for name, template in pod_templates(manifests).items():
        assert template["spec"]["serviceAccountName"] in accounts, name
        assert template["spec"]["automountServiceAccountToken"] is False, name
    assert not of_kind(manifests, "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")


def test_every_pod_can_write_to_tmp_and_its_home_only(manifests: list[Manifest]) -> None:
    for name, template in pod_templates(manifests).items():
        volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
        mounts = {m["mountPath"]: m for m in template["spec"]["containers"][0]["volumeMounts"]}
        assert "sizeLimit" in volumes[mounts["/tmp"]["name"]]["emptyDir"], name
        home = variables(template["spec"]["containers"][0])["HOME"]
        assert "emptyDir" in volumes[mounts[home]["name"]], name
        assert {mount["name"] for mount in mounts.values()} == volumes.keys(), name


@pytest.mark.parametrize(
    ("component", "with_volume", "with_s3"),
    [
        ("api", False, True),
        ("arrangement-worker", False, True),
        ("embedding-worker", False, True),
        ("training-worker", False, False),
        ("loss-worker", False, True),
        ("generation-worker", False, True),
    ],
)
def test_only_who_writes_to_the_shared_folder_may(
    chart: Chart, component: str, with_volume: bool, with_s3: bool
) -> None:
    s3 = {"store": {"type": "s3", "s3": {"bucket": "artifacts", "existingSecret": "s3"}}}
    for values, read_only in (({}, with_volume), (s3, with_s3)):
        container = only_container(chart.render("cpu-only", values=values), f"nearfirst-{component}")
        (mount,) = [mount for mount in container["volumeMounts"] if mount["mountPath"] == "/shared"]
        assert mount["readOnly"] is read_only


def test_engines_never_write_to_the_shared_folder(cluster: list[Manifest]) -> None:
    for name in ("generation-a", "generation-b", "scoring"):
        mounts = only_container(cluster, f"nearfirst-{name}")["volumeMounts"]
        assert [m["readOnly"] for m in mounts if m["mountPath"] == "/shared"] == [True], name


def test_every_image_has_the_version_of_the_chart(manifests: list[Manifest]) -> None:
    version = tomllib.loads((CHART.parents[1] / "shared" / "pyproject.toml").read_text())["project"]["version"]
    for name, container in containers(manifests):
        assert container["image"].rpartition(":")[2] == version, name
    chart_labels = {m["metadata"]["labels"]["app.kubernetes.io/version"] for m in manifests}
    assert chart_labels == {version}


def test_images_are_those_of_the_registry_and_of_the_gpus(cluster: list[Manifest]) -> None:
    images = {name: container["image"].rpartition(":")[0] for name, container in containers(cluster)}
    prefix = "registry.example.org/nearfirst"
    assert images["nearfirst-api"] == images["nearfirst-migrate"] == f"{prefix}/nearfirst-core"
    assert images["nearfirst-training-gpu8-worker"] == f"{prefix}/nearfirst-torch-cuda"
    assert images["nearfirst-generation-a"] == f"{prefix}/nearfirst-generation-cuda"
    assert images["nearfirst-generation-a-worker"] == f"{prefix}/nearfirst-generation-cpu"
    pods = pod_templates(cluster).values()
    assert all(pod["spec"]["imagePullSecrets"] == [{"name": "registry-credentials"}] for pod in pods)


def test_workers_are_probed_by_their_heartbeat_in_the_registry(manifests: list[Manifest]) -> None:
    workers = [(name, container) for name, container in containers(manifests) if container["name"] == "worker"]
    assert workers
    for name, container in workers:
        asked = {kind: container[f"{kind}Probe"] for kind in ("startup", "liveness")}
        assert all(probe["exec"]["command"] == ["python", "-m", ALIVE] for probe in asked.values()), name
        assert importlib.util.find_spec(ALIVE) is not None
        assert asked["startup"]["periodSeconds"] * asked["startup"]["failureThreshold"] >= 300, "imports take a while"
        assert asked["liveness"]["periodSeconds"] * asked["liveness"]["failureThreshold"] > Settings().lease_s, name
        assert "httpGet" not in json.dumps(asked), "a worker has no port"


def test_servers_are_probed_and_leave_their_service_before_they_end(manifests: list[Manifest]) -> None:
    servers = [(n, c) for n, c in containers(manifests) if c["name"] == "server"]
    assert servers
    for name, container in servers:
        assert container["ports"] == [{"name": "http", "containerPort": 8000, "protocol": "TCP"}], name
        probes = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
        assert {probe["port"] for probe in probes.values()} == {"http"}, name
        assert probes["startup"]["path"] == probes["liveness"]["path"] == "/healthz", name
        # A generation server is ready when its first weights can be sent to it.
        assert probes["readiness"]["path"] == ("/healthz" if "generation" in name else "/readyz"), name
        command = container["command"]
        assert command[command.index("--port") + 1] == "8000", name
        drain_s = int(command[command.index("--timeout-graceful-shutdown") + 1])
        grace_s = named(manifests, "Deployment", name)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        assert drain_s + 5 < grace_s, name


def test_a_server_is_given_the_time_to_start_that_the_values_say(cluster: list[Manifest]) -> None:
    probe = only_container(cluster, "nearfirst-generation-a")["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] == 1200


def test_every_container_has_requests_and_a_memory_limit(manifests: list[Manifest]) -> None:
    for name, container in containers(manifests):
        resources = container["resources"]
        assert {"cpu", "memory"} <= resources["requests"].keys(), name
        assert "memory" in resources["limits"], name


def test_gpus_are_limits_and_their_pods_go_where_gpus_are(cluster: list[Manifest]) -> None:
    expected = {"training-gpu8-worker": 8, "training-gpu1-worker": 1, "loss-worker": 1, "generation-a": 1}
    for component, num_gpus in expected.items():
        pod = named(cluster, "Deployment", f"nearfirst-{component}")["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == num_gpus
        assert "nvidia.com/gpu" not in container["resources"]["requests"]
        assert "node.example.org/pool" in pod["nodeSelector"]
        assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    cpu = named(cluster, "Deployment", "nearfirst-generation-a-worker")["spec"]["template"]["spec"]
    assert "nvidia.com/gpu" not in cpu["containers"][0]["resources"]["limits"]
    assert "nodeSelector" not in cpu


def test_a_rollout_of_gpu_pods_asks_for_no_further_gpu(cluster: list[Manifest]) -> None:
    for deployment in of_kind(cluster, "Deployment"):
        limits = deployment["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
        surge = deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"]
        assert surge == (0 if "nvidia.com/gpu" in limits else 1), deployment["metadata"]["name"]


def test_engines_have_shared_memory(cluster: list[Manifest]) -> None:
    pod = named(cluster, "Deployment", "nearfirst-generation-a")["spec"]["template"]["spec"]
    (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "shared-memory"]
    assert volume["emptyDir"] == {"medium": "Memory", "sizeLimit": "8Gi"}
    assert {"name": "shared-memory", "mountPath": "/dev/shm"} in pod["containers"][0]["volumeMounts"]


def test_training_may_save_its_state_before_it_is_killed(cluster: list[Manifest]) -> None:
    for component, grace_s in (("training-gpu1", 120), ("training-gpu8", 300)):
        pod = named(cluster, "Deployment", f"nearfirst-{component}-worker")["spec"]["template"]["spec"]
        assert variables(pod["containers"][0])["NEARFIRST_SAVE_GRACE_S"] == str(grace_s)
        assert pod["terminationGracePeriodSeconds"] >= grace_s + 60


def test_training_is_told_its_gpus_by_number(cluster: list[Manifest], chart: Chart) -> None:
    with_gpus = variables(only_container(cluster, "nearfirst-training-gpu8-worker"))
    assert (with_gpus["NEARFIRST_GPUS"], with_gpus["NEARFIRST_CPU_JOBS"]) == ("0,1,2,3,4,5,6,7", "0")
    without = variables(only_container(chart.render("cpu-only"), "nearfirst-training-worker"))
    assert (without["NEARFIRST_GPUS"], without["NEARFIRST_CPU_JOBS"]) == ("", "1")


def test_secrets_are_references(manifests: list[Manifest]) -> None:
    assert not of_kind(manifests, "Secret")
    for name, container in containers(manifests):
        assert not variables(container).keys() & SECRETS, name
        assert secret_variables(container).keys() <= SECRETS, name
        assert all(key for _, key in secret_variables(container).values()), name


def test_who_gets_which_secret(cluster: list[Manifest]) -> None:
    given = {name: set(secret_variables(container)) for name, container in containers(cluster)}
    registry, s3 = {"PGPASSWORD", "NEARFIRST_BROKER_URL"}, {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    assert given["nearfirst-migrate"] == {"PGPASSWORD"}
    assert given["nearfirst-api"] == registry | s3 | {"NEARFIRST_API_KEYS"}
    assert given["nearfirst-embedding"] == registry | s3 | {"NEARFIRST_API_KEYS", "HF_TOKEN"}
    assert given["nearfirst-generation-a"] == given["nearfirst-scoring"] == {"NEARFIRST_API_KEYS"}
    assert given["nearfirst-arrangement-worker"] == registry | s3
    for name in ("training-gpu8-worker", "gpu32-group", "loss-worker"):
        assert given[f"nearfirst-{name}"] == registry | s3 | {"HF_TOKEN"}
    assert given["nearfirst-generation-a-worker"] == registry | s3 | {"HF_TOKEN", "NEARFIRST_GENERATION_API_KEY"}
    assert given["nearfirst-scoring-worker"] == registry | s3 | {"NEARFIRST_SCORING_API_KEY"}
    training = only_container(cluster, "nearfirst-training-gpu1-worker")
    assert training["envFrom"] == [{"secretRef": {"name": "nearfirst-wandb"}}]
    assert sum("envFrom" in container for _, container in containers(cluster)) == 3


def test_every_server_asks_for_keys(manifests: list[Manifest]) -> None:
    for name, container in containers(manifests):
        has_keys = secret_variables(container).get("NEARFIRST_API_KEYS") == ("nearfirst-keys", "api-keys")
        assert has_keys is (container["name"] == "server"), name
        needs_key = variables(container).get("NEARFIRST_METRICS_NEED_KEY") == "true"
        assert needs_key is has_keys, "an Ingress would show /metrics to everybody"


def test_a_worker_asks_the_server_that_it_is_given(cluster: list[Manifest]) -> None:
    for name in ("generation-a", "generation-b"):
        url = variables(only_container(cluster, f"nearfirst-{name}-worker"))["NEARFIRST_GENERATION_URL"]
        assert url == f"http://nearfirst-{name}:80"
    assert (
        variables(only_container(cluster, "nearfirst-scoring-worker"))["NEARFIRST_SCORING_URL"]
        == "http://nearfirst-scoring:80"
    )


def test_requests_may_name_files_in_the_folders_that_are_mounted(chart: Chart) -> None:
    corpora = {"name": "corpora", "existingClaim": "corpora", "mountPath": "/corpora", "readOnly": True}
    manifests = chart.render("cpu-only", values={"podDefaults": {"volumes": [corpora]}})
    container = only_container(manifests, "nearfirst-api")
    roots = json.loads(variables(container)["NEARFIRST_DATA_ROOTS"])
    assert roots == ["/shared/models", "/shared/data", "/shared/runs", "/corpora"]
    assert {"name": "corpora", "mountPath": "/corpora", "readOnly": True} in container["volumeMounts"]


def test_no_model_is_downloaded_unless_the_values_say_so(chart: Chart, cluster: list[Manifest]) -> None:
    for _, container in containers(chart.render("cpu-only")):
        assert container["name"] == "migrate" or variables(container)["HF_HUB_OFFLINE"] == "1"
    online = {name.removeprefix("nearfirst-") for name, c in containers(cluster) if "HF_HOME" in variables(c)}
    training = {f"training-gpu{n}-worker" for n in (1, 8)} | {"gpu32-group"}
    generation = {f"generation-{n}-worker" for n in "ab"}
    assert online == {"embedding", "embedding-worker", "loss-worker"} | training | generation


def test_a_downloaded_model_is_where_the_engine_that_is_sent_its_path_can_read_it(cluster: list[Manifest]) -> None:
    worker, engine = (only_container(cluster, f"nearfirst-generation-a{role}") for role in ("-worker", ""))
    assert variables(worker)["HF_HOME"] == "/shared/hub"
    assert {"name": "shared", "mountPath": "/shared", "readOnly": False} in worker["volumeMounts"]
    assert "/shared/hub" in json.loads(variables(engine)["NEARFIRST_DATA_ROOTS"])
    assert {"name": "shared", "mountPath": "/shared", "readOnly": True} in engine["volumeMounts"]
