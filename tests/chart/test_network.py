"""The NetworkPolicies let through what the design needs, and nothing else."""

from tests.support.chart import Chart, Manifest, of_kind, pod_templates, selected_by

DNS, POSTGRESQL, REDIS, HTTPS = "dns", "10.20.0.0/24:5432", "10.20.1.0/24:6379", "anywhere:443"
REGISTRY = {DNS, POSTGRESQL, REDIS}

EGRESS = {
    "migrate": {DNS, POSTGRESQL},
    "api": REGISTRY | {HTTPS},
    "embedding": REGISTRY | {HTTPS},
    "generation-a": {DNS},
    "generation-b": {DNS},
    "scoring": {DNS},
    "arrangement-worker": REGISTRY | {HTTPS},
    "embedding-worker": REGISTRY | {HTTPS},
    "training-gpu1-worker": REGISTRY | {HTTPS},
    "training-gpu8-worker": REGISTRY | {HTTPS},
    "loss-worker": REGISTRY | {HTTPS},
    "generation-a-worker": REGISTRY | {HTTPS, "pod nearfirst-generation-a:http"},
    "generation-b-worker": REGISTRY | {HTTPS, "pod nearfirst-generation-b:http"},
    "scoring-worker": REGISTRY | {HTTPS, "pod nearfirst-scoring:http"},
    "gpu32-group": REGISTRY | {HTTPS, "pod nearfirst-gpu32-group:1024-65535"},
}
"""Of the example gpu-cluster. The 443 of workers: S3, the model hub, trackers."""

PROMETHEUS, RESEARCH = "namespace monitoring:http", "namespace research:http"
INGRESS = {
    "api": {"namespace ingress-nginx:http", PROMETHEUS},
    "embedding": {RESEARCH, PROMETHEUS},
    "generation-a": {RESEARCH, PROMETHEUS, "pod nearfirst-generation-a-worker:http"},
    "generation-b": {RESEARCH, PROMETHEUS, "pod nearfirst-generation-b-worker:http"},
    "scoring": {RESEARCH, PROMETHEUS, "pod nearfirst-scoring-worker:http"},
    "gpu32-group": {"pod nearfirst-gpu32-group:1024-65535"},
    **{name: {"namespace monitoring:metrics"} for name in EGRESS if name.endswith("-worker")},
}


def peers(entries: list[Manifest] | None, manifests: list[Manifest]) -> list[str]:
    """The other ends of a rule, in words."""
    if entries is None:
        return ["anywhere"]
    found = []
    for entry in entries:
        match entry:
            case {"ipBlock": {"cidr": cidr}}:
                found.append(cidr)
            case {"namespaceSelector": {"matchLabels": namespace}, "podSelector": {"matchLabels": pods}}:
                assert namespace == {"kubernetes.io/metadata.name": "kube-system"}
                assert pods == {"k8s-app": "kube-dns"}
                found.append(DNS)
            case {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}:
                found.append(f"namespace {namespace}")
            case {"podSelector": {"matchLabels": labels}}:
                (name,) = selected_by(labels, manifests)
                found.append(f"pod {name}")
            case _:
                raise AssertionError(entry)
    return found


def connections(rules: list[Manifest], side: str, manifests: list[Manifest]) -> set[str]:
    """Each peer and port that rules let through; DNS is both ports 53 and nothing more."""
    found = set()
    for rule in rules:
        ports = {(f"{p['port']}-{p['endPort']}" if "endPort" in p else p["port"], p["protocol"]) for p in rule["ports"]}
        for peer in peers(rule.get(side), manifests):
            if peer == DNS:
                assert ports == {(53, "UDP"), (53, "TCP")}
                found.add(DNS)
            else:
                assert {protocol for _, protocol in ports} == {"TCP"}
                found |= {f"{peer}:{port}" for port, _ in ports}
    return found


def policy_of(manifests: list[Manifest]) -> dict[str, Manifest]:
    """The policy of each Deployment and Job."""
    found = {}
    for policy in of_kind(manifests, "NetworkPolicy"):
        (name,) = selected_by(policy["spec"]["podSelector"]["matchLabels"], manifests)
        assert name not in found, "two policies would add up"
        found[name] = policy
    return found


def test_every_pod_has_a_policy_for_both_directions(manifests: list[Manifest]) -> None:
    policies = policy_of(manifests)
    assert policies.keys() == pod_templates(manifests).keys()
    assert all(sorted(policy["spec"]["policyTypes"]) == ["Egress", "Ingress"] for policy in policies.values())


def test_pods_reach_what_they_need(cluster: list[Manifest]) -> None:
    found = {name: connections(p["spec"]["egress"], "to", cluster) for name, p in policy_of(cluster).items()}
    assert found == {f"nearfirst-{name}": expected for name, expected in EGRESS.items()}


def test_pods_are_reached_by_whom_they_serve(cluster: list[Manifest]) -> None:
    found = {
        name: connections(policy["spec"]["ingress"], "from", cluster)
        for name, policy in policy_of(cluster).items()
        if policy["spec"].get("ingress")
    }
    assert found == {f"nearfirst-{name}": expected for name, expected in INGRESS.items()}


def test_an_empty_list_of_namespaces_lets_nobody_in(chart: Chart) -> None:
    manifests = chart.render("one-gpu-node")
    policies = policy_of(manifests)
    assert "ingress" not in policies["nearfirst-api"]["spec"]
    ingress = policies["nearfirst-generation"]["spec"]["ingress"]
    assert connections(ingress, "from", manifests) == {"pod nearfirst-generation-worker:http"}


def test_a_suite_without_s3_hub_and_trackers_reaches_no_https(chart: Chart) -> None:
    manifests = chart.render("cpu-only")
    for name, policy in policy_of(manifests).items():
        found = connections(policy["spec"]["egress"], "to", manifests)
        expected = {DNS, "anywhere:5432"} if name == "nearfirst-migrate" else {DNS, "anywhere:5432", "anywhere:6379"}
        assert found == expected, name
