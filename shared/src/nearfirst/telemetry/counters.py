"""What a process counts, whichever service it is of. Labels are kinds and states, never ids."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, start_http_server
from prometheus_client.registry import Collector

PROCESS = CollectorRegistry()
"""Of this process."""

_RUN_BUCKETS_S = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 24 * 3600, 72 * 3600)
_STEP_BUCKETS_S = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)

RUN_SECONDS = Histogram(
    "nearfirst_run_seconds",
    "Time from a worker's claim until it has reported, by how the run was left",
    ["kind", "state"],
    buckets=_RUN_BUCKETS_S,
    registry=PROCESS,
)
RUNS_IN_PROGRESS = Gauge(
    "nearfirst_runs_in_progress", "Runs that this worker has under way", ["kind"], registry=PROCESS
)
STEP_SECONDS = Histogram(
    "nearfirst_worker_step_seconds",
    "Steps of the trainings of this worker, as each tells of them",
    ["kind"],
    buckets=_STEP_BUCKETS_S,
    registry=PROCESS,
)
TOKENS_PER_SECOND = Gauge(
    "nearfirst_worker_tokens_per_second", "What a training of this worker told last", ["kind"], registry=PROCESS
)
CONTENT_RUNS = Counter(
    "nearfirst_content_runs",
    "Results that are shared by content: `hit` where one is there or under way, else `miss`",
    ["kind", "cache"],
    registry=PROCESS,
)


class ProcessCounters(Collector):
    """Shows `PROCESS` in another registry, too."""

    def collect(self) -> Iterable[Metric]:
        """As they are now."""
        return PROCESS.collect()


def export(port: int) -> None:
    """Serve `PROCESS` to Prometheus in a thread, at every path of a port of this process."""
    start_http_server(port, registry=PROCESS)
