"""Every example passes Helm's lint and the schemas of three Kubernetes versions."""

import copy
from collections.abc import Callable, Iterator
from functools import cache

import kubernetes_validate
import pytest
from kubernetes_validate import utils
from tests.support.chart import EXAMPLES, KUBERNETES_VERSIONS, Chart, Manifest, Refused, of_kind

OF_OPERATORS = {"ScaledObject", "TriggerAuthentication", "ServiceMonitor", "PodMonitor"}
"""Kinds that KEDA and Prometheus's operator bring: Kubernetes itself has no schema for them."""


@pytest.fixture(scope="module", autouse=True)
def schemas_read_once() -> Iterator[None]:
    """The library would read all definitions of a Kubernetes version anew for each manifest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "schema_contents", cache(utils.schema_contents))
        yield


@pytest.mark.parametrize("example", EXAMPLES)
def test_lint_is_content_with_every_example(chart: Chart, example: str) -> None:
    assert "0 chart(s) failed" in chart.lint(example)


@pytest.mark.parametrize("kubernetes", KUBERNETES_VERSIONS)
@pytest.mark.parametrize("example", EXAMPLES)
def test_every_manifest_is_valid(rendered: Callable[[str, str], list[Manifest]], example: str, kubernetes: str) -> None:
    checked = [m for m in rendered(example, kubernetes) if m["kind"] not in OF_OPERATORS]
    assert {"Deployment", "Job", "Service", "NetworkPolicy", "PodDisruptionBudget"} <= {m["kind"] for m in checked}
    for manifest in checked:
        kubernetes_validate.validate(manifest, kubernetes, strict=True)


def test_the_validation_sees_a_field_that_kubernetes_does_not_know(cluster: list[Manifest]) -> None:
    deployment = copy.deepcopy(of_kind(cluster, "Deployment")[0])
    deployment["spec"]["template"]["spec"]["containers"][0]["readyProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readyProbe"):
        kubernetes_validate.validate(deployment, KUBERNETES_VERSIONS[1], strict=True)


def test_a_kubernetes_that_is_too_old_is_refused(chart: Chart) -> None:
    with pytest.raises(Refused, match="incompatible with Kubernetes"):
        chart.render("cpu-only", kubernetes="1.28.0")


def test_no_two_manifests_have_the_same_name(manifests: list[Manifest]) -> None:
    names = [(m["apiVersion"], m["kind"], m["metadata"]["name"]) for m in manifests]
    assert len(names) == len(set(names))


def test_names_leave_room_for_those_of_pods(chart: Chart) -> None:
    longest = {"service": "loss", "resources": {"requests": {}, "limits": {}}}
    manifests = chart.render("cpu-only", release="a" * 23, values={"nameOverride": "a", "workers": {"b" * 15: longest}})
    lengths = [len(m["metadata"]["name"]) for m in of_kind(manifests, "Deployment")]
    assert max(lengths) + len("-0123456789-01234") <= 63
    with pytest.raises(Refused, match="set fullnameOverride"):
        chart.render("cpu-only", release="a" * 24, values={"nameOverride": "a"})
