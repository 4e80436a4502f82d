"""What the stack's smoke test takes for a graceful end."""

from typing import Any

from tests.smoke.stops import longest_stops, stops_in


def event(action: str, service: str, at_s: float, **attributes: str) -> dict[str, Any]:
    """As Docker Engine 26 prints it, without what isn't read."""
    return {
        "Type": "container",
        "Action": action,
        "Actor": {"ID": f"id-{service}", "Attributes": {"com.docker.compose.service": service, **attributes}},
        "timeNano": int(at_s * 1e9),
    }


def test_a_container_that_ends_after_its_signal_ended_gracefully() -> None:
    (own,) = stops_in([event("kill", "api", 1.0, signal="15"), event("die", "api", 3.5, exitCode="0")])
    (passed_on,) = stops_in([event("kill", "api", 1.0, signal="15"), event("die", "api", 1.5, exitCode="143")])
    assert own.seconds == 2.5
    assert own.fault is None
    assert passed_on.fault is None


def test_a_container_that_was_killed_had_too_short_a_grace() -> None:
    events = [
        event("kill", "api", 1.0, signal="15"),
        event("kill", "api", 31.0, signal="9"),
        event("die", "api", 31.1, exitCode="137"),
    ]
    (stop,) = stops_in(events)
    assert stop.fault == "api: killed after 30 s, its grace was too short"


def test_a_container_that_ends_with_an_error_when_told_to_end_is_a_fault() -> None:
    (stop,) = stops_in([event("kill", "api", 1.0, signal="15"), event("die", "api", 2.0, exitCode="1")])
    assert stop.fault == "api: ended with status 1 when it was told to end"


def test_only_the_migration_may_end_unasked_and_only_well() -> None:
    stops = stops_in(
        [
            event("die", "migrate", 1.0, exitCode="0"),
            event("die", "migrate", 2.0, exitCode="1"),
            event("die", "api", 3.0, exitCode="137"),
        ]
    )
    assert [stop.fault for stop in stops] == [
        None,
        "migrate: ended by itself with status 1",
        "api: ended by itself with status 137",
    ]


def test_each_end_has_its_own_signals_and_the_longest_counts() -> None:
    events = [
        event("kill", "api", 1.0, signal="15"),
        event("kill", "redis", 1.0, signal="15"),
        event("die", "redis", 1.2, exitCode="0"),
        event("die", "api", 5.0, exitCode="143"),
        event("kill", "api", 10.0, signal="15"),
        event("die", "api", 11.0, exitCode="143"),
    ]
    stops = stops_in(events)
    assert [(stop.service, stop.signals, stop.seconds) for stop in stops] == [
        ("redis", (15,), 0.2),
        ("api", (15,), 4.0),
        ("api", (15,), 1.0),
    ]
    assert longest_stops(stops) == {"redis": 0.2, "api": 4.0}
