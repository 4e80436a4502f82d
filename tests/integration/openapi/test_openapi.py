"""Every answer of every HTTP service is as its OpenAPI document says, whatever is asked: schemathesis, a fixed seed.

Of each operation and kind of request, `NEARFIRST_API_EXAMPLES` are tried: `make test-api` tries more than `make test`.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed
from hypothesis import settings as hypothesis_settings
from hypothesis.errors import Unsatisfiable
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from nearfirst.contracts.keys import Role

EXAMPLES = int(os.environ.get("NEARFIRST_API_EXAMPLES", "2"))
REFUSED_EXAMPLES = 1
"""What is refused before it is read needs no variety."""
SEED = 20260101
REQUEST_TIMEOUT_S = 120
"""A machine that has much else to do is no wrong answer."""
ENDLESS = ["/events"]
"""A stream without end: nothing here waits for one."""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # a test asks every operation of a service
OPEN = {"/healthz", "/readyz", "/metrics"}
FOR_ADMINS = {"GET /keys", "POST /keys", "POST /keys/{key_id}/revoke", "POST /weights", "POST /weights/adapters"}

limited = hypothesis_settings(
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink],
)


def document(service: Any) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {service.keys[Role.READ]}"} if service.keys else {}
    answer = httpx.get(f"{service.url}/openapi.json", headers=headers, timeout=REQUEST_TIMEOUT_S)
    return dict(answer.raise_for_status().json())


def operations(service: Any) -> Iterator[APIOperation]:
    """Those of the document; who may ask is tested apart, so that a made-up key isn't one more way to be wrong."""
    described = document(service)
    for path in described["paths"].values():
        for operation in path.values():
            operation.pop("security", None)
    schema = schemathesis.openapi.from_dict(described)
    for result in schema.exclude(path=ENDLESS).get_all_operations():
        yield result.ok()


def ask(
    service: Any,
    operation: APIOperation,
    mode: GenerationMode,
    key: str | None,
    num_examples: int = EXAMPLES,
    **given_values: Any,
) -> list[int]:
    """Send an operation some requests and check every answer against the document; returns their statuses."""
    statuses = []

    @seed(SEED)
    @hypothesis_settings(limited, max_examples=num_examples)
    @given(case=operation.as_strategy(generation_mode=mode, **given_values))
    def check(case: Case) -> None:
        # What the document calls valid may name what isn't there, or what doesn't fit together: 404, 409 or 422.
        answer = case.call_and_validate(
            base_url=service.url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            excluded_checks=[positive_data_acceptance],
            timeout=REQUEST_TIMEOUT_S,
        )
        assert answer.headers["x-content-type-options"] == ["nosniff"]
        statuses.append(answer.status_code)

    check()
    return statuses


def ask_rightly(service: Any, operation: APIOperation, body: dict[str, Any], key: str | None) -> int:
    """Send a body that is taken and check the answer against the document; returns its status."""
    case = operation.Case(body=body, path_parameters=ids_of(service, operation), media_type="application/json")
    answer = case.call_and_validate(
        base_url=service.url,
        headers={"Authorization": f"Bearer {key}"} if key else {},
        timeout=REQUEST_TIMEOUT_S,
    )
    assert answer.status_code < 300
    return int(answer.status_code)


def ids_of(service: Any, operation: APIOperation) -> dict[str, str]:
    """Path parameters that name something that is there."""
    return {p.name: service.ids[p.name] for p in operation.path_parameters if p.name in service.ids}


def ask_everything(service: Any, key: str | None, subtests: pytest.Subtests) -> None:
    num_fine = 0
    for operation in operations(service):
        with subtests.test(operation.label):
            statuses = ask(service, operation, GenerationMode.POSITIVE, key)
            if ids := ids_of(service, operation):
                statuses += ask(service, operation, GenerationMode.POSITIVE, key, path_parameters=ids)
            num_fine += any(status < 300 for status in statuses)
            if (body := service.bodies.get(operation.label)) is not None:
                statuses.append(ask_rightly(service, operation, body, key))
                # A header that wants what isn't there would be all that such an operation looks at.
                statuses += ask(service, operation, GenerationMode.POSITIVE, key, path_parameters=ids, headers={})
            with contextlib.suppress(Unsatisfiable):  # an operation that takes nothing can't be asked wrongly
                ask(service, operation, GenerationMode.NEGATIVE, key)
    assert num_fine >= 5  # requests reach what they are for


def test_every_answer_is_as_declared_where_no_key_is_asked_for(open_service: Any, subtests: pytest.Subtests) -> None:
    ask_everything(open_service, None, subtests)


def test_every_answer_is_as_declared_for_an_admin(closed_service: Any, subtests: pytest.Subtests) -> None:
    ask_everything(closed_service, closed_service.keys[Role.ADMIN], subtests)


@pytest.mark.parametrize("key", [None, f"nf_{'0' * 16}_{'0' * 64}"], ids=["no key", "an unknown key"])
def test_without_a_good_key_every_operation_answers_401(
    closed_service: Any, key: str | None, subtests: pytest.Subtests
) -> None:
    for operation in operations(closed_service):
        with subtests.test(operation.label):
            statuses = ask(closed_service, operation, GenerationMode.POSITIVE, key, REFUSED_EXAMPLES)
            assert set(statuses) == {200 if operation.path in OPEN else 401}


@pytest.mark.parametrize("role", [Role.READ, Role.SUBMIT])
def test_a_key_does_what_its_role_may_and_nothing_else(
    closed_service: Any, role: Role, subtests: pytest.Subtests
) -> None:
    for operation in operations(closed_service):
        with subtests.test(operation.label):
            key = closed_service.keys[role]
            statuses = ask(closed_service, operation, GenerationMode.POSITIVE, key, REFUSED_EXAMPLES)
            needed = needed_role(operation.label)
            assert {status == 403 for status in statuses} == {needed is not None and not role.includes(needed)}


def test_the_document_says_which_role_an_operation_needs(closed_service: Any) -> None:
    for path, described in document(closed_service)["paths"].items():
        for method, operation in described.items():
            needed = needed_role(f"{method.upper()} {path}")
            assert operation.get("security") == ([{"ApiKey": [needed]}] if needed is not None else None)


def needed_role(label: str) -> Role | None:
    """Of an operation, as docs/security.md has it."""
    method, path = label.split()
    if path in OPEN:
        return None
    if label in FOR_ADMINS:
        return Role.ADMIN
    return Role.READ if method == "GET" else Role.SUBMIT
