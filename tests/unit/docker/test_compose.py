"""compose.yaml keeps what it promises, and agrees with the programs and the chart."""

import importlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic_settings import BaseSettings

REPOSITORY = Path(__file__).parents[3]
COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())
GPU: dict[str, Any] = yaml.safe_load((REPOSITORY / "compose.gpu.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PROGRAMS: dict[str, dict[str, Any]] = yaml.safe_load(
    (REPOSITORY / "helm" / "nearfirst" / "files" / "services.yaml").read_text()
)
OTHERS = ("postgres", "redis", "migrate")
SETTINGS_MODULES = ("nearfirst", "nearfirst_embedding", "nearfirst_generation", "nearfirst_scoring")
LIBRARIES = {
    "PGHOST": "libpq",
    "PGDATABASE": "libpq",
    "PGUSER": "libpq",
    "PGPASSWORD": "libpq",
    "HF_HOME": "huggingface-hub",
    "HF_HUB_OFFLINE": "huggingface-hub",
    "HF_TOKEN": "huggingface-hub",
    "OMP_NUM_THREADS": "torch",
    "TMPDIR": "tempfile",
    "CUDA_VISIBLE_DEVICES": "CUDA",
}
"""Variables that libraries read."""
SECRET = re.compile(r"PASSWORD|KEY|TOKEN|SECRET|AUTH|BROKER_URL")


def ours() -> Iterator[tuple[str, dict[str, Any], str, dict[str, Any]]]:
    """Services that run a server or a worker: name, service, `servers` or `workers`, what the chart says of it."""
    for name, service in SERVICES.items():
        if name not in OTHERS:
            role = "workers" if name.endswith("-worker") else "servers"
            yield name, service, role, PROGRAMS[role][name.removesuffix("-worker")]


def mounts(service: dict[str, Any]) -> dict[str, bool]:
    """Whether each mounted folder can be written, by its place."""
    found = (re.fullmatch(r"(?:\$\{[^}]*\}|[\w/-]+):(/[\w/-]+)(:ro)?", volume) for volume in service["volumes"])
    return {match[1]: match[2] is None for match in found if match is not None}


def names_in(package: str) -> Iterator[str]:
    """The variables that the settings classes of a package read."""
    for settings in vars(importlib.import_module(f"{package}.settings")).values():
        if isinstance(settings, type) and issubclass(settings, BaseSettings):
            prefix = settings.model_config["env_prefix"]
            for name, field in settings.model_fields.items():
                yield str(field.validation_alias or f"{prefix}{name}".upper())


def test_every_program_of_the_suite_is_a_service() -> None:
    expected = {*PROGRAMS["servers"], *(f"{name}-worker" for name in PROGRAMS["workers"]), *OTHERS}
    assert set(SERVICES) == expected


def test_every_service_runs_the_application_that_the_chart_runs_on_the_same_image() -> None:
    for name, service, role, program in ours():
        assert program["application"] in service["command"], name
        assert ("uvicorn" in service["command"]) == (role == "servers"), name
        family = service["image"].partition(":")[0].removeprefix("nearfirst-").removesuffix("-cpu")
        assert family == program["image"], name


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}
    assert service.get("user") == "10001:10001" or name == "postgres"
    assert "cap_add" not in service or name == "postgres"
    assert "privileged" not in service
    assert "max-size" in service["logging"]["options"]


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_a_healthcheck_or_runs_once(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check == {"disable": True} if name == "migrate" else {"test", "interval", "timeout", "retries"} <= set(check)


def test_servers_are_asked_at_the_path_that_says_whether_they_can_take_requests() -> None:
    for name, service, role, program in ours():
        path = service["healthcheck"]["test"][2:]
        assert path == ([program["readiness"]] if role == "servers" and program["readiness"] != "/readyz" else []), name


def test_nothing_is_published_beyond_loopback() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 2
    assert all(isinstance(port, str) and port.startswith("127.0.0.1:") for port in ports)


def test_only_services_that_are_published_or_download_reach_the_outside() -> None:
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    for name, service, _, program in ours():
        assert ("outside" in service["networks"]) == ("ports" in service or program["hub"]), name
    assert [SERVICES[name]["networks"] for name in OTHERS] == [["inside"]] * 3


def test_programs_with_the_registry_start_after_the_migration_and_others_know_nothing_of_it() -> None:
    for name, service, _, program in ours():
        condition = service.get("depends_on", {}).get("migrate")
        assert (condition == {"condition": "service_completed_successfully"}) == program["registry"], name
        assert ("PGPASSWORD" in service["environment"]) == program["registry"], name
    assert SERVICES["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}


def test_a_service_can_write_shared_files_if_its_program_does() -> None:
    for name, service, _, program in ours():
        writable = mounts(service)
        assert writable["/shared"] == bool(program["writes"] or program["hub"]), name
        assert writable["/models"] is False, name
        assert writable["/var/lib/nearfirst"] is True, name


def test_servers_ask_for_keys_and_workers_show_theirs() -> None:
    for name, service, role, program in ours():
        environment = service["environment"]
        assert ("NEARFIRST_API_KEYS" in environment) == (role == "servers"), name
        if "server" in program:
            assert program["server"]["key"] in environment, name
            assert program["server"]["url"] in environment, name


def test_every_variable_is_one_that_a_program_reads() -> None:
    known = LIBRARIES.keys() | {name for package in SETTINGS_MODULES for name in names_in(package)}
    for name, service in SERVICES.items():
        if name not in ("postgres", "redis"):
            assert service["environment"].keys() <= known, name
    for name, service in GPU["services"].items():
        assert service.get("environment", {}).keys() <= known, name


def test_no_secret_has_a_value_in_the_files() -> None:
    """Each is required from the environment, or passed on only if it is there."""
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if SECRET.search(variable) and value not in (None, "true"):
                assert re.search(r"\$\{\w+:\?", value), (name, variable)


def test_the_example_names_every_variable_that_the_files_ask_for() -> None:
    text = (REPOSITORY / "compose.yaml").read_text() + (REPOSITORY / "compose.gpu.yaml").read_text()
    example = (REPOSITORY / ".env.example").read_text()
    required = set(re.findall(r"\$\{(\w+):\?", text))
    named = set(re.findall(r"^#?(\w+)=", example, re.MULTILINE))
    assert required <= named
    assert {name for name in named if name.startswith("STACK_")} <= set(re.findall(r"\$\{(\w+)", text))
    assert set(re.findall(r"^(\w+)=$", example, re.MULTILINE)) == required - {"STACK_TRAINING_GPUS", "STACK_OTHER_GPU"}


def test_a_worker_is_given_longer_to_end_than_its_jobs_to_save_their_state() -> None:
    worker = SERVICES["training-worker"]
    save_grace_s = int(worker["environment"]["NEARFIRST_SAVE_GRACE_S"])
    assert int(worker["stop_grace_period"].removesuffix("s")) >= save_grace_s + 30


def test_gpus_are_for_those_whose_programs_use_them_and_on_the_cuda_images() -> None:
    families = {name: program["image"] for name, _, _, program in ours() if program["image"] != "core"}
    assert GPU["services"].keys() == families.keys()
    for name, service in GPU["services"].items():
        assert service["image"].startswith(f"nearfirst-{families[name]}-cuda:"), name
        reserves = "reservations" in service.get("deploy", {}).get("resources", {})
        assert reserves == (name != "generation-worker"), name  # its server has the model


def test_every_image_is_built_by_a_dockerfile_with_its_user_labels_healthcheck_and_a_base_with_a_version() -> None:
    files = {
        service["build"]["dockerfile"]
        for service in [*SERVICES.values(), *GPU["services"].values()]
        if "dockerfile" in service.get("build", {})
    }
    assert {REPOSITORY / file for file in files} == set((REPOSITORY / "docker").glob("*.Dockerfile"))
    for file in files:
        text = (REPOSITORY / file).read_text()
        final = text.rpartition("\nFROM ")[2]
        assert "\nUSER 10001:10001\n" in final, file
        assert "\nHEALTHCHECK " in final, file
        assert "LABEL org.opencontainers.image.title=" in final, file
        bases = re.findall(r"^ARG \w+_IMAGE=(\S+)$", text, re.MULTILINE)
        assert bases, file
        assert all(re.search(r":v?\d+\.\d+", base) for base in bases), file
        stages = set(re.findall(r"^FROM \S+ AS (\S+)$", text, re.MULTILINE))
        assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) - stages <= {"${PYTHON_IMAGE}", "${VLLM_IMAGE}"}, (
            file
        )


def test_a_change_of_our_sources_leaves_the_layers_of_the_environment() -> None:
    """Each is copied from a stage of its own, and nothing that changes with each commit is named before them."""
    for path in (REPOSITORY / "docker").glob("*.Dockerfile"):
        dependencies, distributions, final = re.split(r"^FROM .*\n", path.read_text(), flags=re.MULTILINE)[1:]
        assert not re.search(r"^COPY (shared|services/\w+) ", dependencies, re.MULTILINE), path.name
        assert "--target /opt/nearfirst" in distributions, path.name
        copies = ["COPY --from=dependencies /opt/venv", "COPY --from=distributions /opt/nearfirst"]
        places = [final.index(what) for what in (*copies, "ARG VERSION", "ARG REVISION")]
        assert places == sorted(places), path.name


def test_compose_and_the_dockerfiles_name_the_same_bases() -> None:
    text = (REPOSITORY / "compose.yaml").read_text() + (REPOSITORY / "compose.gpu.yaml").read_text()
    named = dict(re.findall(r"\$\{STACK_(PYTHON_IMAGE|VLLM_IMAGE):-([^}]+)\}", text))
    defaults = {
        (name, base)
        for path in (REPOSITORY / "docker").glob("*.Dockerfile")
        for name, base in re.findall(r"^ARG (\w+_IMAGE)=(\S+)$", path.read_text(), re.MULTILINE)
    }
    assert defaults == set(named.items())


def test_each_image_is_built_by_one_service_and_never_looked_for_in_a_registry() -> None:
    builders = [service["image"] for service in SERVICES.values() if "build" in service]
    assert sorted(builders) == sorted({service["image"] for _, service, _, _ in ours()})
    for name, service in SERVICES.items():
        if "build" not in service and name not in ("postgres", "redis"):
            assert service["pull_policy"] == "never", name
    for name, service in GPU["services"].items():
        assert ("build" in service) == ("build" in SERVICES[name]), name


def test_images_have_the_version_of_the_distributions() -> None:
    version = tomllib.loads((REPOSITORY / "shared" / "pyproject.toml").read_text())["project"]["version"]
    for path in (REPOSITORY / "docker").glob("*.Dockerfile"):
        assert f"\nARG VERSION={version}\n" in path.read_text()
    assert set(re.findall(r"STACK_VERSION:-([^}]+)\}", (REPOSITORY / "compose.yaml").read_text())) == {version}
