"""WSD and TMA against one float32 matrix product of the same shape, TMA against the paper's loop on real P3, memory.

    python tests/bench/bench_arrangement.py [--only wsd,tma,p3,growth,memory] [--rows 1000000] [--repeats 5]

Prints one JSON object on stdout and tables on stderr; exits 1 when rounds differ from those of the literal loop. What
is compared runs side by side, in turn, on the same embeddings: random unit rows of 384 dimensions, 1,000 test rows.

- The product is torch.mm in blocks of the size that the engine uses, into the same output each time. Beside it, not
  in any ratio, the same product as the engine multiplies (`screening.products`).
- The literal loop works on the whole float64 distance matrix (400 MB), with identical rows given identical distances,
  rounded to the similarity quantum; making the matrix isn't counted. Its rounds without rounding are compared too.
- Peak memory is the resident high-water mark of a process of its own, less its embeddings; the interpreter and its
  libraries are in it.
"""

import argparse
import gzip
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table

from nearfirst.contracts.arrangements import ArrangementRules
from nearfirst.similarity.blocks import DEFAULT_MEMORY_BUDGET_BYTES, block_shape
from nearfirst.similarity.screening import full_precision, products
from nearfirst_arrangement.methods import arrange

QUANTUM = 2.0**-40
NUM_TEST = 1000
NUM_DIMENSIONS = 384
LIMIT = 30_000
PARTS = ("wsd", "tma", "p3", "growth", "memory")
LARGEST_POOL = (1_340_000, 1_125)
GIB = 2**30
DEFAULT_DATA = Path(__file__).parents[3] / "shared" / "data"

BARS = {"wsd": 1.5, "tma_min": 2.5, "tma_nft": 2.5, "p3": 100.0}
RULES = {
    "wsd": ArrangementRules(method="wsd", order="nft"),
    "tma_min": ArrangementRules(method="tma", order="min", limit=LIMIT),
    "tma_nft": ArrangementRules(method="tma", order="nft", limit=LIMIT),
}

Rows = npt.NDArray[np.float32]
Rounds = list[npt.NDArray[np.int64]]
console = Console(stderr=True)


def random_unit_rows(count: int, seed: int) -> Rows:
    """(count, 384) normal directions, made in blocks: nothing but the rows themselves is ever held."""
    rng = np.random.default_rng(seed)
    rows = np.empty((count, NUM_DIMENSIONS), dtype=np.float32)
    for start in range(0, count, 8192):
        block = rows[start : start + 8192]
        rng.standard_normal(out=block, dtype=np.float32)
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    return rows


def our_product(train: Rows, test: Rows) -> None:
    """`matrix_product` as the engine multiplies: with oneDNN instead of torch's choice."""
    step = block_shape(len(train), len(test), NUM_DIMENSIONS, DEFAULT_MEMORY_BUDGET_BYTES).train
    with full_precision():
        for start in range(0, len(train), step):
            products(torch.from_numpy(train[start : start + step]), torch.from_numpy(test))


def matrix_product(train: Rows, test: Rows) -> None:
    """All similarities in float32, block by block, thrown away."""
    step = block_shape(len(train), len(test), NUM_DIMENSIONS, DEFAULT_MEMORY_BUDGET_BYTES).train
    test_T = torch.from_numpy(test).T
    out = torch.empty(step, len(test))
    for start in range(0, len(train), step):
        block = torch.from_numpy(train[start : start + step])
        torch.mm(block, test_T, out=out[: len(block)])


def seconds(work: Callable[[], object]) -> float:
    """How long `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_turn(works: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each, all of them once in each of `repeats` turns, after a turn that isn't counted."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(repeats + 1):
        for name, work in works.items():
            console.print(f"{name}, turn {turn} of {repeats}", end="\r")
            spent = seconds(work)
            if turn:
                taken[name].append(spent)
    return {name: statistics.median(each) for name, each in taken.items()}


def rules_for(name: str, num_rows: int) -> ArrangementRules:
    """The rules of that name; in a pool that is smaller than their limit the limit is the pool."""
    rules = RULES[name]
    return rules.model_copy(update={"limit": rules.limit and min(rules.limit, num_rows)})


def against_product(names: list[str], num_rows: int, repeats: int) -> dict[str, Any]:
    """Seconds of arrangements of `num_rows` rows, and their ratio to the product."""
    train, test = random_unit_rows(num_rows, 0), random_unit_rows(NUM_TEST, 1)
    works: dict[str, Callable[[], object]] = {
        "product": lambda: matrix_product(train, test),
        "our_product": lambda: our_product(train, test),
    }
    for name in names:
        works[name] = partial(arrange, rules_for(name, num_rows), train, test, num_rows)
    medians = in_turn(works, repeats)
    return {
        "num_train": num_rows,
        "seconds": {name: round(value, 3) for name, value in medians.items()},
        "ratio": {name: round(medians[name] / medians["product"], 2) for name in names},
    }


def load_p3(folder: Path) -> tuple[Rows, Rows]:
    """Train rows (split is not `test`) and the first 1,000 test rows, float32 of unit length."""
    with gzip.open(folder / "p3.jsonl.gz", "rt", encoding="utf-8") as file:
        is_test = np.array([json.loads(line)["split"] == "test" for line in file])
    rows = np.load(folder / "p3_minilm_fp16.npy").astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows[~is_test], rows[is_test][:NUM_TEST]


def distance_matrix(train: Rows, test: Rows, *, rounded: bool) -> npt.NDArray[np.float64]:
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


def our_rounds(train: Rows, test: Rows) -> Rounds:
    """The rounds of a TMA arrangement of the whole pool with paper fidelity."""
    rules = ArrangementRules(method="tma", order="nft", fidelity="paper")
    arranged = arrange(rules, train, test, len(train))
    return np.split(arranged.index, np.flatnonzero(np.diff(arranged.round)) + 1)


def num_different(found: Rounds, expected: Rounds) -> int:
    """Rounds that are not the same rows, and those that only one side has."""
    pairs = zip(found, expected, strict=False)
    return sum(not np.array_equal(*pair) for pair in pairs) + abs(len(found) - len(expected))


def on_p3(data: Path, repeats: int) -> dict[str, Any]:
    """TMA of the whole pool against the literal loop (once rounded, once not), and one float32 product."""
    train, test = load_p3(data)
    works: dict[str, Callable[[], object]] = {
        "product": lambda: matrix_product(train, test),
        "our_product": lambda: our_product(train, test),
        "ours": lambda: our_rounds(train, test),
    }
    medians = in_turn(works, repeats)
    found = our_rounds(train, test)
    different, literal_s = {}, {}
    for name, rounded in (("rounded", True), ("unrounded", False)):
        distance = distance_matrix(train, test, rounded=rounded)
        start = time.perf_counter()
        expected = literal_rounds(distance)
        literal_s[name] = time.perf_counter() - start
        different[name] = num_different(found, expected)
        del distance
    literal = statistics.median(literal_s.values())
    return {
        "num_train": len(train),
        "num_test": len(test),
        "seconds": {name: round(value, 3) for name, value in medians.items()} | {"literal": round(literal, 1)},
        "ratio": {"p3": round(literal / medians["ours"], 1)},
        "ratio_to_product": round(medians["ours"] / medians["product"], 2),
        "num_rounds": len(found),
        "rounds_different": different,
    }


def resident_bytes(field: str) -> int:
    """VmRSS (now) or VmHWM (the most so far) of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


def child_memory(name: str, num_rows: int, num_test: int) -> dict[str, Any]:
    """In a process of its own: the high-water mark of one arrangement."""
    train, test = random_unit_rows(num_rows, 0), random_unit_rows(num_test, 1)
    before = resident_bytes("VmRSS")
    start = time.perf_counter()
    arrange(rules_for(name, num_rows), train, test, num_rows)
    embeddings = train.nbytes + test.nbytes
    return {
        "what": name,
        "num_train": num_rows,
        "num_test": num_test,
        "seconds": round(time.perf_counter() - start, 2),
        "embeddings_gib": round(embeddings / GIB, 3),
        "beyond_embeddings_gib": round((resident_bytes("VmHWM") - embeddings) / GIB, 3),
        "of_which_before_gib": round((before - embeddings) / GIB, 3),
    }


def peak_memory(name: str, num_rows: int, num_test: int) -> dict[str, Any]:
    """`child_memory` in a new process."""
    command = [sys.executable, __file__, "--child-memory", f"{name},{num_rows},{num_test}"]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


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
        "torch_threads": torch.get_num_threads(),
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
    }


def print_tables(result: dict[str, Any]) -> None:
    """The result for a person, on stderr: stdout is JSON alone."""
    speed = Table(title=f"Arrangements against one float32 product, x {NUM_TEST} x {NUM_DIMENSIONS}")
    for column in ("what", "train rows", "seconds", "product", "ours", "ratio", "bar"):
        speed.add_column(column, justify="right")
    for part in [result[name] for name in ("arrange",) if name in result] + result.get("growth", []):
        for name, ratio in part["ratio"].items():
            bar = f"<= {BARS[name]}"
            taken = part["seconds"]
            times = (f"{taken[each]} s" for each in (name, "product", "our_product"))
            speed.add_row(name, str(part["num_train"]), *times, f"{ratio}", bar)
    if speed.row_count:
        console.print(speed)
    if "p3" in result:
        part = result["p3"]
        table = Table(title=f"TMA, whole pool, {part['num_train']} x {part['num_test']}, real P3")
        for column in (
            "ours",
            "literal loop",
            "ratio",
            "bar",
            "product",
            "our product",
            "rounds",
            "differ",
            "unrounded",
        ):
            table.add_column(column, justify="right")
        taken, different = part["seconds"], part["rounds_different"]
        values = (f"{taken['ours']} s", f"{taken['literal']} s", f"{part['ratio']['p3']}", f">= {BARS['p3']}")
        counts = (part["num_rounds"], different["rounded"], different["unrounded"])
        table.add_row(*values, f"{taken['product']} s", f"{taken['our_product']} s", *(str(count) for count in counts))
        console.print(table)
    if "memory" in result:
        table = Table(title="Peak memory beyond the embeddings")
        for column in ("what", "train rows", "test rows", "embeddings", "beyond", "seconds"):
            table.add_column(column, justify="right")
        for part in result["memory"]:
            shape = (part["what"], str(part["num_train"]), str(part["num_test"]))
            gib = (f"{part['embeddings_gib']} GiB", f"{part['beyond_embeddings_gib']} GiB")
            table.add_row(*shape, *gib, f"{part['seconds']}")
        console.print(table)
    console.print(", ".join(f"{name} {value}" for name, value in result["machine"].items()))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The parts that were asked for."""
    result: dict[str, Any] = {"bench": "arrangement", "machine": machine(), "repeats": options.repeats}
    names = [name for name in RULES if name.split("_")[0] in options.only]
    if names:
        result["arrange"] = against_product(names, options.rows, options.repeats)
    if "p3" in options.only:
        result["p3"] = on_p3(options.data, options.repeats)
    if "growth" in options.only:
        sizes = [options.rows // 8, options.rows // 4, options.rows // 2]
        result["growth"] = [against_product(["wsd", "tma_min"], size, 3) for size in sizes]
    if "memory" in options.only:
        shapes = [("wsd", options.rows, NUM_TEST), ("tma_nft", options.rows, NUM_TEST), ("tma_nft", *LARGEST_POOL)]
        result["memory"] = [peak_memory(*shape) for shape in shapes]
    return result


def main() -> int:
    """Run the benchmark; 0 when all rounds on P3 are equal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(PARTS), help=",".join(PARTS))
    parser.add_argument("--rows", type=int, default=1_000_000, help="train rows of wsd, tma, memory; growth: its parts")
    parser.add_argument("--repeats", type=int, default=5, help="turns, beside one that isn't counted")
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="folder with p3.jsonl.gz and its vectors")
    parser.add_argument("--child-memory", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child_memory:
        name, num_rows, num_test = options.child_memory.split(",")
        print(json.dumps(child_memory(name, int(num_rows), int(num_test))))
        return 0
    if unknown := set(options.only) - set(PARTS):
        parser.error(f"--only: got {sorted(unknown)}, wanted some of {', '.join(PARTS)}")
    if "p3" in options.only and not (options.data / "p3.jsonl.gz").is_file():
        console.print(f"p3: skipped, there is no P3 sample in {options.data}")
        options.only.remove("p3")
    result = measure(options)
    print(json.dumps(result))
    print_tables(result)
    return 1 if any(result.get("p3", {}).get("rounds_different", {}).values()) else 0


if __name__ == "__main__":
    sys.exit(main())
