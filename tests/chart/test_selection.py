"""What points at pods finds the right ones: Services, budgets, scalers, the Ingress, Prometheus."""

import pytest
from tests.support.chart import (
    Chart,
    Manifest,
    Refused,
    containers,
    named,
    of_kind,
    pod_templates,
    selected_by,
    variables,
)


def test_each_deployment_selects_its_own_pods(manifests: list[Manifest]) -> None:
    for deployment in of_kind(manifests, "Deployment"):
        selector = deployment["spec"]["selector"]["matchLabels"]
        assert selected_by(selector, manifests) == [deployment["metadata"]["name"]]


def test_each_service_selects_the_pods_of_its_server_and_a_port_of_theirs(manifests: list[Manifest]) -> None:
    services = [service for service in of_kind(manifests, "Service") if service["spec"].get("clusterIP") != "None"]
    assert {s["metadata"]["name"] for s in services} == {n for n, c in containers(manifests) if c["name"] == "server"}
    for service in services:
        name = service["metadata"]["name"]
        assert selected_by(service["spec"]["selector"], manifests) == [name]
        (container,) = pod_templates(manifests)[name]["spec"]["containers"]
        named_ports = {port["name"] for port in container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= named_ports


def test_each_deployment_has_a_budget_that_lets_a_node_be_drained(manifests: list[Manifest]) -> None:
    budgets = of_kind(manifests, "PodDisruptionBudget")
    covered = [selected_by(budget["spec"]["selector"]["matchLabels"], manifests) for budget in budgets]
    assert sorted(covered) == sorted([d["metadata"]["name"]] for d in of_kind(manifests, "Deployment"))
    assert {budget["spec"]["maxUnavailable"] for budget in budgets} == {1}


def test_what_is_scaled_has_no_number_of_replicas_and_one_scaler(manifests: list[Manifest]) -> None:
    scalers = of_kind(manifests, "ScaledObject", "HorizontalPodAutoscaler")
    targets = [scaler["spec"]["scaleTargetRef"]["name"] for scaler in scalers]
    assert len(targets) == len(set(targets))
    for deployment in of_kind(manifests, "Deployment"):
        assert ("replicas" in deployment["spec"]) is (deployment["metadata"]["name"] not in targets)


def test_an_example_with_keda_scales_each_worker_that_says_how(cluster: list[Manifest]) -> None:
    bounds = {
        m["metadata"]["name"]: (m["spec"]["minReplicaCount"], m["spec"]["maxReplicaCount"])
        for m in of_kind(cluster, "ScaledObject")
    }
    assert bounds == {
        "nearfirst-arrangement-worker": (1, 8),
        "nearfirst-embedding-worker": (0, 8),
        "nearfirst-training-gpu1-worker": (0, 16),
        "nearfirst-training-gpu8-worker": (0, 8),
        "nearfirst-loss-worker": (0, 8),
        "nearfirst-scoring-worker": (1, 4),
    }


def test_without_keda_nothing_of_it_is_rendered(chart: Chart) -> None:
    manifests = chart.render("gpu-cluster", values={"keda": {"enabled": False}})
    assert not of_kind(manifests, "ScaledObject", "TriggerAuthentication")
    assert named(manifests, "Deployment", "nearfirst-loss-worker")["spec"]["replicas"] == 1


def test_keda_reads_the_registry_with_the_password_of_the_secret(cluster: list[Manifest]) -> None:
    (authentication,) = of_kind(cluster, "TriggerAuthentication")
    assert authentication["spec"] == {
        "secretTargetRef": [{"parameter": "password", "name": "nearfirst-postgresql", "key": "password"}]
    }
    for scaled in of_kind(cluster, "ScaledObject"):
        (trigger,) = scaled["spec"]["triggers"]
        assert trigger["type"] == "postgresql"
        assert trigger["metricType"] == "AverageValue"
        assert trigger["authenticationRef"] == {"name": authentication["metadata"]["name"]}
        assert all(isinstance(value, str) for value in trigger["metadata"].values())
        where = {key: value for key, value in trigger["metadata"].items() if "uery" not in key}
        assert where == {
            "host": "postgresql.example.org",
            "port": "5432",
            "dbName": "nearfirst",
            "userName": "nearfirst",
            "sslmode": "verify-full",
        }


def test_the_ingress_ends_tls_and_leads_to_the_api(cluster: list[Manifest]) -> None:
    (ingress,) = of_kind(cluster, "Ingress")
    assert ingress["spec"]["tls"] == [{"hosts": ["nearfirst.example.org"], "secretName": "nearfirst-tls"}]
    (rule,) = ingress["spec"]["rules"]
    assert rule["host"] == "nearfirst.example.org"
    backend = rule["http"]["paths"][0]["backend"]["service"]
    ports = named(cluster, "Service", backend["name"])["spec"]["ports"]
    assert backend["name"] == "nearfirst-api"
    assert backend["port"]["name"] in {port["name"] for port in ports}


def test_prometheus_finds_every_server(cluster: list[Manifest]) -> None:
    (monitor,) = of_kind(cluster, "ServiceMonitor")
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    services = [service for service in of_kind(cluster, "Service") if service["spec"].get("clusterIP") != "None"]
    assert services
    for service in services:
        assert wanted <= service["metadata"]["labels"].items()
        (endpoint,) = monitor["spec"]["endpoints"]
        assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    credentials = monitor["spec"]["endpoints"][0]["authorization"]["credentials"]
    assert credentials == {"name": "nearfirst-keys", "key": "internal-key"}
    assert monitor["metadata"]["labels"]["release"] == "kube-prometheus-stack"


def test_prometheus_finds_the_port_of_every_worker_and_of_no_server(cluster: list[Manifest]) -> None:
    (monitor,) = of_kind(cluster, "PodMonitor")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    chosen = selected_by(monitor["spec"]["selector"]["matchLabels"], cluster)
    for name, container in containers(cluster):
        served = [port["containerPort"] for port in container.get("ports", []) if port["name"] == endpoint["port"]]
        told = variables(container).get("NEARFIRST_WORKER_METRICS_PORT")
        assert [str(port) for port in served] == ([told] if container["name"] == "worker" else []), name
        assert not served or name in chosen
    assert monitor["metadata"]["labels"]["release"] == "kube-prometheus-stack"


def test_workers_open_no_port_where_nobody_asks_for_their_metrics(chart: Chart) -> None:
    manifests = chart.render("cpu-only")
    assert of_kind(manifests, "PodMonitor") == []
    for _, container in containers(manifests):
        assert container["name"] == "server" or "ports" not in container


def test_the_api_alone_believes_the_proxies_that_are_named(chart: Chart, cluster: list[Manifest]) -> None:
    believing = {name: variables(each).get("FORWARDED_ALLOW_IPS") for name, each in containers(cluster)}
    assert {name: who for name, who in believing.items() if who} == {"nearfirst-api": "10.42.0.0/16"}
    two = chart.render("gpu-cluster", values={"ingress": {"trustedProxies": ["10.0.0.7", "fd00::/8"]}})
    (api,) = [variables(each) for name, each in containers(two) if name == "nearfirst-api"]
    assert api["FORWARDED_ALLOW_IPS"] == "10.0.0.7,fd00::/8"


@pytest.mark.parametrize("proxy", ["*", "ingress-nginx", ""])
def test_a_proxy_that_is_no_address_is_refused(chart: Chart, proxy: str) -> None:
    with pytest.raises(Refused, match="trustedProxies"):
        chart.render("gpu-cluster", values={"ingress": {"trustedProxies": [proxy]}})


def test_every_pod_mounts_a_claim_that_is_there(chart: Chart, manifests: list[Manifest]) -> None:
    claims = {m["metadata"]["name"] for m in of_kind(manifests, "PersistentVolumeClaim")} or {"nearfirst-lustre"}
    for template in pod_templates(manifests).values():
        volumes = [v for v in template["spec"]["volumes"] if "persistentVolumeClaim" in v]
        assert {volume["persistentVolumeClaim"]["claimName"] for volume in volumes} <= claims


def test_a_claim_of_the_chart_outlives_the_release(chart: Chart) -> None:
    (claim,) = of_kind(chart.render("one-gpu-node"), "PersistentVolumeClaim")
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert claim["spec"]["resources"] == {"requests": {"storage": "2Ti"}}
    assert claim["spec"]["storageClassName"] == "local-path"
