"""demo/report.json: what was run, on what, and what came out."""

import os
import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import Field

from nearfirst.contracts.arrangements import Method, Order
from nearfirst.contracts.base import Contract

PACKAGES = (
    "nearfirst",
    "nearfirst-arrangement",
    "nearfirst-embedding",
    "nearfirst-training",
    "torch",
    "transformers",
    "sentence-transformers",
    "numpy",
)


class ArrangementResult(Contract):
    """One arrangement of the study."""

    method: Method
    order: Order
    seed: int
    digest: str
    num_rows: int
    num_rounds: int | None
    """None for methods without rounds."""


class RunResult(Contract):
    """One training run of the study."""

    method: Method
    order: Order
    seed: int
    steps: int
    receipt_head: str
    receipt_verified: bool
    """The job verified it, and it was recomputed from the order and compared with training's log of ids."""
    receipt_faults: list[str] = Field(default_factory=list)
    test_loss: list[tuple[int, float]]
    """(step, mean test loss in nats per token), from step 0 to the last."""

    def loss_at(self, step: int) -> float:
        """The test loss that was measured at `step`."""
        return dict(self.test_loss)[step]

    @property
    def area(self) -> float:
        """Area under the loss curve by trapezoids, over the number of steps: a mean loss."""
        pairs = zip(self.test_loss, self.test_loss[1:], strict=False)
        return sum((right - left) * (a + b) / 2 for (left, a), (right, b) in pairs) / self.steps


class LineSummary(Contract):
    """One line of the figure in numbers: means over seeds."""

    method: Method
    order: Order
    start: float
    quarter: float
    half: float
    end: float
    area: float
    """Mean loss over all steps."""
    num_seeds: int
    num_verified: int
    """Runs whose receipt is verified."""


class PairedDifference(Contract):
    """Test loss of TMA's nft minus fft, run by run with the same seed; below 0: nearest first is better."""

    step: int
    mean: float
    by_seed: dict[int, float]


class Summary(Contract):
    """The result of the study."""

    lines: list[LineSummary]
    nft_minus_fft: dict[str, PairedDifference]
    """At a `quarter`, `half` and the `end` of the steps."""


class Report(Contract):
    """The whole of report.json."""

    data: dict[str, Any]
    model: dict[str, Any]
    training: dict[str, Any]
    arrangements: list[ArrangementResult]
    runs: list[RunResult]
    summary: Summary
    machine: dict[str, Any]
    versions: dict[str, str | None]
    duration_s: float

    def write(self, path: Path) -> None:
        """Write it as indented JSON."""
        path.write_text(self.model_dump_json(indent=2) + "\n")

    @property
    def num_unverified(self) -> int:
        """Runs whose receipt is not verified."""
        return sum(not run.receipt_verified for run in self.runs)


def summarize(runs: Sequence[RunResult], steps: int) -> Summary:
    """Means over seeds at the start, a quarter, a half and the end, and nft against fft seed by seed.

    Args:
        runs: every run measured at step 0, `steps` / 4, `steps` / 2 and `steps`.
        steps: of each run; a multiple of 4.
    """
    marks = {"quarter": steps // 4, "half": steps // 2, "end": steps}
    lines = dict.fromkeys((run.method, run.order) for run in runs)
    return Summary(
        lines=[_line_summary([run for run in runs if (run.method, run.order) == line], steps) for line in lines],
        nft_minus_fft={name: _paired_difference(runs, step) for name, step in marks.items()},
    )


def _line_summary(runs: Sequence[RunResult], steps: int) -> LineSummary:
    def mean_at(step: int) -> float:
        return fmean(run.loss_at(step) for run in runs)

    return LineSummary(
        method=runs[0].method,
        order=runs[0].order,
        start=mean_at(0),
        quarter=mean_at(steps // 4),
        half=mean_at(steps // 2),
        end=mean_at(steps),
        area=fmean(run.area for run in runs),
        num_seeds=len(runs),
        num_verified=sum(run.receipt_verified for run in runs),
    )


def _paired_difference(runs: Iterable[RunResult], step: int) -> PairedDifference:
    tma = {(run.order, run.seed): run.loss_at(step) for run in runs if run.method is Method.TMA}
    seeds = sorted(seed for order, seed in tma if order is Order.NFT)
    by_seed = {seed: tma[Order.NFT, seed] - tma[Order.FFT, seed] for seed in seeds}
    return PairedDifference(step=step, mean=fmean(by_seed.values()), by_seed=by_seed)


def describe_machine() -> dict[str, Any]:
    """What the times were measured on."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor_name(),
        "num_cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }


def describe_versions() -> dict[str, str | None]:
    """Python's and the packages' versions; None for what is not installed here."""
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return versions


def _processor_name() -> str:
    """The processor's marketing name where the system says it, else the architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
