"""`python -m tests.support.check_report FOLDER`: whether a demo showed what it is for; exits 1 when it didn't."""

import json
import statistics
import sys
from pathlib import Path
from typing import Any


def find_faults(folder: Path) -> list[str]:
    """What is missing or wrong in a demo's folder, computed from its runs alone."""
    faults = [f"no {name}" for name in ("figure.svg", "figure.png") if not (folder / name).is_file()]
    report = json.loads((folder / "report.json").read_text())
    runs: list[dict[str, Any]] = report["runs"]
    faults += [
        f"{run['order']}, seed {run['seed']}: receipt not verified" for run in runs if not run["receipt_verified"]
    ]
    nearest, farthest = (mean_loss_at_a_quarter(runs, order) for order in ("nft", "fft"))
    print(f"mean test loss at a quarter of the steps: TMA nft {nearest:.4f}, fft {farthest:.4f}")
    if not nearest < farthest:
        faults.append("nft is not below fft at a quarter of the steps")
    return faults


def mean_loss_at_a_quarter(runs: list[dict[str, Any]], order: str) -> float:
    """Mean over seeds of TMA's test loss at a quarter of the steps."""
    chosen = [run for run in runs if (run["method"], run["order"]) == ("tma", order)]
    return statistics.mean(dict(map(tuple, run["test_loss"]))[run["steps"] // 4] for run in chosen)


if __name__ == "__main__":
    found = find_faults(Path(sys.argv[1]))
    print("\n".join(found) or "the report holds")
    sys.exit(1 if found else 0)
