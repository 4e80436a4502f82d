"""The migration Job does, on a real PostgreSQL, what a release needs before its pods start."""

import os
import subprocess
import sys

from sqlalchemy.engine import make_url
from tests.support.chart import Chart, Manifest, named, of_kind, secret_variables, variables

from nearfirst.registry.database import Database
from nearfirst.registry.migrate import is_current


def migration(manifests: list[Manifest]) -> Manifest:
    """The one Job that is a hook; the others are groups of training pods."""
    (job,) = [each for each in of_kind(manifests, "Job") if "helm.sh/hook" in each["metadata"].get("annotations", {})]
    return job


def test_it_runs_before_an_installation_and_before_an_upgrade(manifests: list[Manifest]) -> None:
    job = migration(manifests)
    annotations = job["metadata"]["annotations"]
    assert annotations["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert annotations["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"
    assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"


def test_what_it_needs_is_made_before_it(manifests: list[Manifest]) -> None:
    job = migration(manifests)
    account = named(manifests, "ServiceAccount", job["spec"]["template"]["spec"]["serviceAccountName"])
    policy = named(manifests, "NetworkPolicy", job["metadata"]["name"])
    weight = int(job["metadata"]["annotations"]["helm.sh/hook-weight"])
    for needed in (account, policy):
        assert needed["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
        assert int(needed["metadata"]["annotations"]["helm.sh/hook-weight"]) < weight


def test_it_mounts_nothing_that_an_installation_has_still_to_make(manifests: list[Manifest]) -> None:
    job = migration(manifests)
    assert [volume["name"] for volume in job["spec"]["template"]["spec"]["volumes"]] == ["tmp"]


def test_its_command_and_its_variables_make_the_tables(chart: Chart, empty_database_url: str) -> None:
    url = make_url(empty_database_url)
    where = {"host": url.host, "port": url.port, "database": url.database, "user": url.username, "sslmode": "disable"}
    job = migration(chart.render("cpu-only", values={"postgresql": where}))
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert secret_variables(container).keys() == {"PGPASSWORD"}
    # A password of odd characters needs no quoting, and a server that trusts everybody doesn't look at it.
    environment = variables(container) | {"PGPASSWORD": "p@ss:w/rd %", "PYTHONPATH": os.pathsep.join(sys.path)}
    python, *arguments = container["command"]
    assert python == "python"
    subprocess.run([sys.executable, *arguments], env=environment, check=True, timeout=60)
    database = Database(empty_database_url)
    try:
        assert is_current(database)
    finally:
        database.close()
