"""The chart as its users see it: what Helm renders, lints and refuses, and ways through the manifests."""

import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[2] / "helm" / "nearfirst"
EXAMPLES = ("cpu-only", "one-gpu-node", "gpu-cluster")
KUBERNETES_VERSIONS = ("1.29.0", "1.33.0", "1.37.0")

Manifest = dict[str, Any]


class Refused(Exception):
    """Helm didn't render; the message is what the user reads."""


class Chart:
    """A chart and the Helm that renders it."""

    def __init__(self, helm: Path, folder: Path = CHART) -> None:
        self._helm = helm
        self.folder = folder

    def render(
        self,
        example: str,
        *,
        values: Mapping[str, Any] | None = None,
        kubernetes: str = KUBERNETES_VERSIONS[1],
        release: str = "nearfirst",
    ) -> list[Manifest]:
        """The manifests of an example, hooks included; `values` are merged over it.

        Raises:
            Refused: the values don't fit the chart.
        """
        options = ["--kube-version", kubernetes, *self._files(example), "--values", "-"]
        text = self._run("template", release, str(self.folder), *options, given=values)
        return [manifest for manifest in yaml.safe_load_all(text) if manifest]

    def lint(self, example: str) -> str:
        """What `helm lint --strict` says of an example.

        Raises:
            Refused: it isn't content.
        """
        return self._run("lint", "--strict", str(self.folder), *self._files(example))

    def _files(self, example: str) -> list[str]:
        return ["--values", str(self.folder / "examples" / f"{example}.yaml")]

    def _run(self, *arguments: str, given: Mapping[str, Any] | None = None) -> str:
        done = subprocess.run(
            [str(self._helm), *arguments],
            input=yaml.safe_dump(dict(given or {})),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise Refused(done.stderr + done.stdout)
        return done.stdout


def of_kind(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    """The manifests of some kinds."""
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def named(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    """The one manifest of a kind with this name."""
    (found,) = [manifest for manifest in of_kind(manifests, kind) if manifest["metadata"]["name"] == name]
    return found


def pod_templates(manifests: list[Manifest]) -> dict[str, Manifest]:
    """The pod template of each Deployment and Job, by name; that of a node group has the name of its Service."""
    templates = {m["metadata"]["name"]: m["spec"]["template"] for m in of_kind(manifests, "Deployment", "Job")}
    return {template["spec"].get("subdomain", name): template for name, template in templates.items()}


def containers(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Every container, with the name of its Deployment or Job."""
    for name, template in pod_templates(manifests).items():
        for container in template["spec"].get("initContainers", []) + template["spec"]["containers"]:
            yield name, container


def selected_by(selector: Mapping[str, str], manifests: list[Manifest]) -> list[str]:
    """Names of the Deployments and Jobs whose pods have all of these labels."""
    return [
        name
        for name, template in pod_templates(manifests).items()
        if selector.items() <= template["metadata"]["labels"].items()
    ]


def variables(container: Manifest) -> dict[str, str]:
    """A container's environment variables that have a value of their own."""
    return {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}


def secret_variables(container: Manifest) -> dict[str, tuple[str, str]]:
    """A container's environment variables that name a Secret and a key in it."""
    references = {e["name"]: e["valueFrom"]["secretKeyRef"] for e in container["env"] if "valueFrom" in e}
    return {name: (reference["name"], reference["key"]) for name, reference in references.items()}
