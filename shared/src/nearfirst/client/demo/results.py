"""What the study's runs left on the server, fetched and checked."""

from rich.progress import Progress

from nearfirst.client.api import Client
from nearfirst.client.demo.follow import track
from nearfirst.client.demo.proof import find_faults
from nearfirst.client.demo.report import ArrangementResult, RunResult
from nearfirst.client.demo.study import Job, Study
from nearfirst.contracts.problems import NotReady


def collect_arrangements(client: Client, study: Study) -> list[ArrangementResult]:
    """The study's arrangements, which must have succeeded."""
    results = []
    for (line, seed), arrangement_id in study.arrangements.items():
        arrangement = client.arrangement(arrangement_id)
        if arrangement.digest is None or arrangement.num_rows is None:
            raise NotReady(f"arrangement {arrangement_id} is {arrangement.state} and has no digest yet")
        results.append(
            ArrangementResult(
                method=line.method,
                order=line.order,
                seed=seed,
                digest=arrangement.digest,
                num_rows=arrangement.num_rows,
                num_rounds=arrangement.num_rounds,
            )
        )
    return results


def collect_runs(
    client: Client, study: Study, arrangements: list[ArrangementResult], num_steps: int, bars: Progress
) -> list[RunResult]:
    """The study's training runs with their test losses, each receipt checked against order and log.

    Args:
        client: of the server that has them.
        study: its jobs must have succeeded.
        arrangements: what `collect_arrangements` gave.
        num_steps: of each run.
        bars: shows how many receipts are checked.
    """
    digests = dict(zip(study.arrangements.values(), (result.digest for result in arrangements), strict=True))
    orders: dict[str, list[str]] = {}
    results = []
    for job in track(bars, study.jobs, "receipts"):
        if job.arrangement_id not in orders:
            orders[job.arrangement_id] = [row.id for row in client.order(job.arrangement_id)]
        order, digest = orders[job.arrangement_id], digests[job.arrangement_id]
        results.append(_run_result(client, job, order, digest, num_steps))
    return results


def _run_result(client: Client, job: Job, order: list[str], digest: str, num_steps: int) -> RunResult:
    receipt = client.receipt(job.id)
    faults = find_faults(order, digest, receipt, client.consumed(job.id), num_steps)
    return RunResult(
        method=job.line.method,
        order=job.line.order,
        seed=job.seed,
        steps=receipt.steps,
        receipt_head=receipt.head,
        receipt_verified=not faults,
        receipt_faults=faults,
        test_loss=[(row.step, row.value) for row in client.metrics(job.id, "test_loss")],
    )
