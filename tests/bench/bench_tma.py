"""TMA on all of real P3 against the paper's literal loop: equal rounds, and how much faster.

    python tests/bench/bench_tma.py [--data FOLDER] [--repeats 3] [--unrounded]

Prints one JSON object and a table; exits 1 when any round differs. The literal loop works on the whole distance matrix
in float64 (400 MB), with identical rows given identical distances, and rounds these to the similarity quantum; the time
to make the matrix is not counted, so the ratio is the literal loop's best case.
"""

import argparse
import gzip
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from nearfirst.contracts.arrangements import ArrangementRules
from nearfirst_arrangement.methods import arrange

QUANTUM = 2.0**-40
NUM_TEST = 1000
DEFAULT_DATA = Path(__file__).parents[3] / "shared" / "data"

Rounds = list[npt.NDArray[np.int64]]


def load_p3(folder: Path) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Train rows (split is not `test`) and the first 1,000 test rows, float32 of unit length."""
    with gzip.open(folder / "p3.jsonl.gz", "rt", encoding="utf-8") as file:
        is_test = np.array([json.loads(line)["split"] == "test" for line in file])
    rows = np.load(folder / "p3_minilm_fp16.npy").astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows[~is_test], rows[is_test][:NUM_TEST]


def distance_matrix(
    train: npt.NDArray[np.float32], test: npt.NDArray[np.float32], *, rounded: bool
) -> npt.NDArray[np.float64]:
    """-cosine in float64, (N, M), of distinct rows, given out to all rows that are equal."""
    train_rows, train_of = np.unique(train, axis=0, return_inverse=True)
    test_rows, test_of = np.unique(test, axis=0, return_inverse=True)
    product = train_rows.astype(np.float64) @ test_rows.astype(np.float64).T
    if rounded:
        product = np.rint(product / QUANTUM) * QUANTUM
    return -product[train_of][:, test_of]


def literal_rounds(distance: npt.NDArray[np.float64]) -> Rounds:
    """The paper's loop: argmin over the remaining rows of every test column, the union, rows marked, to the end."""
    work = distance.copy()
    marked = work.max() + 1
    rounds: Rounds = []
    num_left = len(work)
    while num_left:
        chosen = np.unique(work.argmin(axis=0))
        work[chosen] = marked
        rounds.append(chosen)
        num_left -= len(chosen)
    return rounds


def our_rounds(train: npt.NDArray[np.float32], test: npt.NDArray[np.float32]) -> Rounds:
    """The rounds of a TMA arrangement of the whole pool with paper fidelity."""
    rules = ArrangementRules(method="tma", order="nft", fidelity="paper")
    arranged = arrange(rules, train, test, len(train))
    starts = np.flatnonzero(np.diff(arranged.round)) + 1
    return np.split(arranged.index, starts)


def timed(work: Callable[[], Rounds]) -> tuple[Rounds, float]:
    """What `work` returns, and the seconds it took."""
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def num_different(found: Rounds, expected: Rounds) -> int:
    """Rounds that are not the same rows, and those that only one side has."""
    pairs = zip(found, expected, strict=False)
    return sum(not np.array_equal(*pair) for pair in pairs) + abs(len(found) - len(expected))


def machine() -> dict[str, Any]:
    """What the times were measured on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def measure(data: Path, repeats: int, *, unrounded: bool) -> dict[str, Any]:
    """Ours and the literal loop in turn, `repeats` times; medians, and whether the rounds are equal."""
    train, test = load_p3(data)
    distance = distance_matrix(train, test, rounded=True)
    ours_s, literal_s, different = [], [], 0
    for _ in range(repeats):
        found, seconds = timed(lambda: our_rounds(train, test))
        ours_s.append(seconds)
        expected, seconds = timed(lambda: literal_rounds(distance))
        literal_s.append(seconds)
        different = max(different, num_different(found, expected))
    result: dict[str, Any] = {
        "bench": "tma_p3",
        "machine": machine(),
        "num_train": len(train),
        "num_test": len(test),
        "repeats": repeats,
        "ours_s": round(statistics.median(ours_s), 3),
        "literal_s": round(statistics.median(literal_s), 3),
        "ratio": round(statistics.median(literal_s) / statistics.median(ours_s), 2),
        "num_rounds": len(found),
        "rounds_different": different,
    }
    if unrounded:
        del distance
        plain = literal_rounds(distance_matrix(train, test, rounded=False))
        result["rounds_different_from_unrounded_float64"] = num_different(found, plain)
    return result


def print_table(result: dict[str, Any]) -> None:
    """The result for a person, on stderr: stdout is JSON alone."""
    table = Table(title=f"TMA, whole pool, {result['num_train']} x {result['num_test']}, P3")
    for column in ("ours", "literal loop", "ratio", "rounds", "rounds that differ"):
        table.add_column(column, justify="right")
    table.add_row(
        f"{result['ours_s']} s",
        f"{result['literal_s']} s",
        f"{result['ratio']}x",
        str(result["num_rounds"]),
        str(result["rounds_different"]),
    )
    console = Console(stderr=True)
    console.print(table)
    console.print(", ".join(f"{name} {value}" for name, value in result["machine"].items()))


def main() -> int:
    """Run the benchmark; 0 when all rounds are equal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="folder with p3.jsonl.gz and its vectors")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each side, in turn")
    parser.add_argument("--unrounded", action="store_true", help="compare with plain float64, not rounded, too")
    options = parser.parse_args()
    if not (options.data / "p3.jsonl.gz").is_file():
        parser.error(f"there is no P3 sample in {options.data}")
    result = measure(options.data, options.repeats, unrounded=options.unrounded)
    print(json.dumps(result))
    print_table(result)
    return 1 if result["rounds_different"] else 0


if __name__ == "__main__":
    sys.exit(main())
