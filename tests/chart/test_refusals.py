"""What the chart refuses, and whether a person can read why."""

from typing import Any

import pytest
from tests.support.chart import Chart, Refused

UNLIMITED: dict[str, Any] = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "2Gi"}}
ENGINE: dict[str, Any] = {"service": "generation", "resources": UNLIMITED}

GROUP: dict[str, Any] = {"nodes": 2, "resources": UNLIMITED}

REFUSALS: list[tuple[str, dict[str, Any], str]] = [
    ("an unknown key", {"replicas": 3}, "Additional property replicas is not allowed"),
    (
        "an unknown key of a worker",
        {"workers": {"loss": {"gpu": 1}}},
        "workers.loss: Additional property gpu is not allowed",
    ),
    ("no password of the registry", {"postgresql": {"existingSecret": ""}}, "postgresql.existingSecret is empty"),
    ("no host of the registry", {"postgresql": {"host": ""}}, "postgresql.host is empty"),
    ("no broker", {"redis": {"existingSecret": ""}}, "redis.existingSecret is empty"),
    ("no keys", {"auth": {"existingSecret": ""}}, "auth.existingSecret is empty"),
    ("no storage", {"storage": {"size": ""}}, "storage: name a PersistentVolumeClaim"),
    ("S3 without a bucket", {"store": {"type": "s3"}}, "store.s3.bucket is empty"),
    ("S3 without a secret", {"store": {"type": "s3", "s3": {"bucket": "b"}}}, "store.s3.existingSecret is empty"),
    ("an ingress without TLS", {"ingress": {"tlsSecret": ""}}, "ingress.tlsSecret is empty"),
    ("an ingress without a host", {"ingress": {"host": ""}}, "ingress.host is empty"),
    (
        "an ingress that nothing lets through",
        {"networkPolicy": {"ingressNamespaces": []}},
        "networkPolicy.ingressNamespaces is empty",
    ),
    (
        "GPUs without limits",
        {"workers": {"training": {"gpus": 2}}},
        "workers.training asks for GPUs (2) without limits: set workers.training.resources.limits.cpu and .memory",
    ),
    (
        "GPUs as a request",
        {"workers": {"training": {"resources": {"requests": {"nvidia.com/gpu": 1}}}}},
        "workers.training.resources.requests has nvidia.com/gpu: ask for GPUs with workers.training.gpus",
    ),
    (
        "GPUs for what uses none",
        {"workers": {"arrangement": {"gpus": 1, "resources": {"limits": {"cpu": "1"}}}}},
        "workers.arrangement.gpus is 1, but arrangement uses no GPU",
    ),
    ("a worker without resources", {"workers": {"more": {"service": "loss"}}}, "workers.more: resources is required"),
    ("no API", {"servers": {"api": None}}, "servers: api is required"),
    ("another API", {"servers": {"api": {"service": "scoring"}}}, "servers.api.service does not match"),
    (
        "a secret as a variable",
        {"settings": {"env": {"NEARFIRST_API_KEYS": "[]"}}},
        'settings.env: Property name of "NEARFIRST_API_KEYS" does not match',
    ),
    ("another program's variable", {"settings": {"env": {"PATH": "/x"}}}, 'Property name of "PATH" does not match'),
    ("the tag latest", {"images": {"tag": "latest"}}, "images.tag"),
    (
        "two replicas of one engine",
        {"servers": {"vllm": ENGINE | {"replicas": 2}}},
        "servers.vllm: a generation server holds the weights of one checkpoint",
    ),
    (
        "two workers for one engine",
        {"servers": {"vllm": ENGINE}, "workers": {"generation": {"server": "vllm", "replicas": 2}}},
        "workers.generation has up to 2 replicas for one generation server",
    ),
    (
        "a server that isn't there",
        {"workers": {"generation": {"server": "vllm"}}},
        'workers.generation.server is "vllm"',
    ),
    (
        "a server of another kind",
        {"workers": {"generation": {"server": "api"}}},
        'workers.generation.server is "api", a server for api; wanted one for generation',
    ),
    ("a server for who uses none", {"workers": {"loss": {"server": "api"}}}, "loss workers use no server"),
    (
        "settings of training elsewhere",
        {"workers": {"loss": {"saveGraceSeconds": 60}}},
        "workers.loss: saveGraceSeconds and cpuJobs are settings of training workers",
    ),
    (
        "bounds the wrong way round",
        {"workers": {"loss": {"scaling": {"minReplicas": 3, "maxReplicas": 2}}}},
        "workers.loss.scaling.minReplicas is 3, more than maxReplicas, 2",
    ),
    (
        "an unknown key of a node group",
        {"multiNode": {"big": GROUP | {"gpusPerNode": 8}}},
        "multiNode.big: Additional property gpusPerNode is not allowed",
    ),
    (
        "replicas of a node group",
        {"multiNode": {"big": GROUP | {"replicas": 2}}},
        "multiNode.big: Additional property replicas is not allowed",
    ),
    ("a group of one node", {"multiNode": {"big": GROUP | {"nodes": 1}}}, "multiNode.big.nodes"),
    ("a group of unknown size", {"multiNode": {"big": {"resources": UNLIMITED}}}, "multiNode.big: nodes is required"),
    (
        "GPUs of a node group without limits",
        {"multiNode": {"big": GROUP | {"gpus": 8}}},
        "multiNode.big asks for GPUs (8) without limits: set multiNode.big.resources.limits.cpu and .memory",
    ),
    ("two components of one name", {"servers": {"loss-worker": ENGINE}}, "rename one"),
    ("a name that is too long", {"fullnameOverride": "a" * 24}, "fullnameOverride"),
]


@pytest.mark.parametrize(("values", "message"), [case[1:] for case in REFUSALS], ids=[case[0] for case in REFUSALS])
def test_it_is_refused_with_a_reason(chart: Chart, values: dict[str, Any], message: str) -> None:
    with pytest.raises(Refused) as refusal:
        chart.render("cpu-only", values=values)
    assert message in str(refusal.value)


def test_a_release_whose_names_would_be_too_long_is_refused(chart: Chart) -> None:
    with pytest.raises(Refused, match=r"has 31 characters, at most 23 are left .* set fullnameOverride"):
        chart.render("cpu-only", release="a-rather-long-release")
