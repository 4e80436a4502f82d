"""The training loop against transformers' Trainer and against padding to 1,024, and what checkpoints cost.

    python tests/bench/bench_training.py [--data FOLDER] [--batch 16] [--steps 20] [--repeats 3]

Prints one JSON object (stdout) and tables (stderr), and says which bars of the design are missed; exits 1 when the runs
that are compared did different work (their first losses differ): how fast they are depends on what else the machine
does. The runs are in training_runs.py.

- Every run is a process of its own; all of them once in each turn, ratios are of medians. Memory is a process's
  high-water mark.
- The same rows in the same order: real P3, drawn evenly over the file and shuffled. The same Llama with random weights,
  fused AdamW, learning rate and clipping. A forward pass has at most half the rows of a step.
- Compared are steps 3 to 10; importing, reading, tokenizing and making the model come before. Tokens are real ones, not
  pads. Both loops record the loss of every step. Beside it, in no bar, processor time of all threads: with
  OMP_NUM_THREADS=1 it says more than time does on a machine that does other things too.
- trainer: sequential sampler, each micro-batch padded to its longest row by DataCollatorForSeq2Seq, rows tokenized
  ahead. padded: our loop, with every row padded to 1,024. checkpoints: our loop with weights and state every 10 steps,
  against the one without: from the end of step 10 to the end of step `--steps`, in which as many are written as there
  are tens of steps. two processes: DDP over gloo, on the same
  cores.
- full tuning: a Llama-2-7B-shaped model, bf16 over fp32 weights, activation checkpointing, rows of 1,024 tokens, on all
  GPUs; without enough of them the same run with the small model, which measures nothing but that it runs.
"""

import argparse
import gzip
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from training_runs import CHECKPOINT_EVERY, GIB, MAX_LENGTH, SEED, Case
from transformers import AutoTokenizer

from nearfirst.client.demo.model import ModelShape, build_model
from nearfirst.client.progress import progress_bar
from nearfirst.data.dataset import load_dataset
from nearfirst_training.data import tokenize_rows

DEFAULT_DATA = Path(__file__).parents[3] / "shared" / "data"
BUNDLED = files("nearfirst.data.bundled")
RUNS = Path(__file__).with_name("training_runs.py")
SHAPE = ModelShape(vocab_size=2048, hidden_size=256, intermediate_size=688, layers=6, heads=4, max_length=MAX_LENGTH)
WARM_STEPS, COMPARED_STEPS = 2, 10
NUM_LOSSES, MAX_LOSS_DIFFERENCE = 5, 1e-4
BARS = {"trainer": 1.0, "padded": 2.0}
MAX_CHECKPOINT_SHARE, MIN_MFU = 0.05, 0.45
LLAMA_2_7B = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "head_dim": 128,
}
LLAMA_2_7B_WEIGHTS = 6_738_415_616
BYTES_PER_WEIGHT = 16
"""fp32: the weight, its gradient, two moments."""
BYTES_BESIDE = 20 * 10**9
"""On each GPU: weights in bf16, activations, logits."""
FULL_TUNING_BATCH, FULL_TUNING_MICRO_BATCH, FULL_TUNING_STEPS = 16, 4, 8

console = Console(stderr=True)
Runs = dict[str, list[dict[str, Any]]]


def real_pairs(source: Path, num_pairs: int) -> list[tuple[str, str]]:
    """Prompts and answers of real P3, drawn evenly over the file, shuffled; without P3 the bundled data's."""
    p3 = source / "p3.jsonl.gz"
    content = p3.read_bytes() if p3.is_file() else BUNDLED.joinpath("instructions.jsonl.gz").read_bytes()
    rows = [json.loads(line) for line in gzip.decompress(content).splitlines()]
    chosen = np.linspace(0, len(rows) - 1, num_pairs).astype(int)
    np.random.default_rng(SEED).shuffle(chosen)
    return [(rows[row]["inputs_pretokenized"], rows[row]["targets_pretokenized"]) for row in chosen]


def write_pairs(path: Path, pairs: list[tuple[str, str]]) -> str:
    """Write a dataset; returns its path."""
    path.write_text("".join(f"{json.dumps({'prompt': prompt, 'completion': answer})}\n" for prompt, answer in pairs))
    return str(path)


def token_counts(data: str, model: str) -> list[int]:
    """Real tokens of each row."""
    rows = tokenize_rows(load_dataset(Path(data)).examples, AutoTokenizer.from_pretrained(model), MAX_LENGTH)
    return rows.lengths().tolist()


def measure(case: Case) -> dict[str, Any]:
    """Do a run in processes of its own."""
    num_ranks = case.gpus or case.processes
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(num_ranks)]
    command = [sys.executable, *(torchrun if num_ranks > 1 else []), str(RUNS), json.dumps(asdict(case))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{case} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def in_turn(cases: dict[str, Case], repeats: int) -> Runs:
    """Every case once in each turn."""
    runs: Runs = {name: [] for name in cases}
    with progress_bar("training") as progress:
        for turn in range(repeats):
            for place, (name, case) in enumerate(cases.items()):
                runs[name].append(measure(replace(case, out=f"{case.out}-{turn}")))
                progress(turn * len(cases) + place + 1, repeats * len(cases), "runs")
    return runs


def cases_of(folder: Path, options: argparse.Namespace) -> dict[str, Case]:
    """What is compared, on data and a model that are written into the folder."""
    pairs = real_pairs(options.data, (options.steps + 1) * options.batch)
    model = build_model(folder, (f"{prompt}\n{answer}" for prompt, answer in pairs), SHAPE).folder
    data = write_pairs(folder / "data.jsonl", pairs)
    ours = Case("ours", data, str(model), str(folder / "ours"), options.batch, options.batch // 2, options.steps)
    short = replace(ours, steps=COMPARED_STEPS)
    return {
        "trainer": replace(short, kind="trainer", out=str(folder / "trainer")),
        "ours": ours,
        "checkpoints": replace(ours, has_checkpoints=True, out=str(folder / "checkpoints")),
        "padded": replace(short, kind="padded", out=str(folder / "padded")),
        "two processes": replace(short, processes=2, out=str(folder / "two")),
    }


def median_s(runs: list[dict[str, Any]], clock: str, start: int, stop: int) -> float:
    """Median over runs of what a clock went on between the ends of two steps."""
    return statistics.median(run[clock][stop] - run[clock][start] for run in runs)


def compared(runs: Runs, num_tokens: int, steps: int) -> dict[str, Any]:
    """Medians of each, and the ratios that have bars; `num_tokens`: of the steps that are compared."""
    seconds = {name: median_s(found, "ended_s", WARM_STEPS, COMPARED_STEPS) for name, found in runs.items()}
    cpu_s = {name: median_s(found, "cpu_s", WARM_STEPS, COMPARED_STEPS) for name, found in runs.items()}
    plain_s, saving_s = (median_s(runs[name], "ended_s", CHECKPOINT_EVERY, steps) for name in ("ours", "checkpoints"))
    plain_cpu_s, saving_cpu_s = (
        median_s(runs[name], "cpu_s", CHECKPOINT_EVERY, steps) for name in ("ours", "checkpoints")
    )
    blocked_s = median_s(runs["checkpoints"], "blocked_s", CHECKPOINT_EVERY, steps)
    return {
        "num_tokens": num_tokens,
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "cpu_s": {name: round(value, 3) for name, value in cpu_s.items()},
        "tokens_per_s": {name: round(num_tokens / value, 1) for name, value in seconds.items()},
        "peak_gib": {name: statistics.median(each["peak_gib"] for each in found) for name, found in runs.items()},
        "ratio": {name: round(seconds[name] / seconds["ours"], 3) for name in BARS},
        "checkpoints": {
            "plain_s": round(plain_s, 3),
            "saving_s": round(saving_s, 3),
            "share": round(saving_s / plain_s - 1, 4),
            "cpu_share": round(saving_cpu_s / plain_cpu_s - 1, 4),
            "blocked_share": round(blocked_s / plain_s, 4),
        },
        "losses": {name: found[0]["losses"][:NUM_LOSSES] for name, found in runs.items()},
    }


def full_tuning(folder: Path, small: Case) -> dict[str, Any]:
    """Full tuning of a 7B model where its weights and optimizer fit; else, with the reason, of the small model."""
    texts = " ".join(prompt for prompt, _ in real_pairs(folder, 400)).split()
    starts = range(0, 7 * FULL_TUNING_BATCH * (FULL_TUNING_STEPS + 1), 7)
    pairs = [("Go on:", " ".join(texts[start:][:MAX_LENGTH])) for start in starts]
    case = replace(
        small,
        kind="full tuning",
        data=write_pairs(folder / "long.jsonl", pairs),
        out=str(folder / "full"),
        batch=FULL_TUNING_BATCH,
        micro_batch=FULL_TUNING_MICRO_BATCH,
        steps=FULL_TUNING_STEPS,
    )
    why_not = _why_not_7b()
    if why_not is None:
        return measure(replace(case, gpus=torch.cuda.device_count(), config=LLAMA_2_7B))
    return {"skipped": why_not, "small model": measure(replace(case, batch=2, micro_batch=1, steps=2))}


def _why_not_7b() -> str | None:
    if not torch.cuda.is_available():
        return "no GPU"
    memory = [torch.cuda.get_device_properties(gpu).total_memory for gpu in range(torch.cuda.device_count())]
    needed = LLAMA_2_7B_WEIGHTS * BYTES_PER_WEIGHT / len(memory) + BYTES_BESIDE
    if min(memory) < needed:
        return f"{len(memory)} GPUs of {min(memory) / GIB:.0f} GiB; each needs about {needed / GIB:.0f} GiB"
    return None


def machine() -> dict[str, Any]:
    """What the times were measured on."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "processor": names[0].partition(":")[2].strip() if names else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "torch_threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(gpu) for gpu in range(torch.cuda.device_count())],
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", "accelerate")},
    }


def different_work(result: dict[str, Any]) -> list[str]:
    """Runs whose first losses aren't our loop's, in words."""
    ours = np.array(result["losses"]["ours"])
    differences = {name: float(np.abs(np.array(each) / ours - 1).max()) for name, each in result["losses"].items()}
    return [
        f"the first losses of {name} differ from ours by up to {difference:.1e} of themselves"
        for name, difference in differences.items()
        if not difference <= MAX_LOSS_DIFFERENCE
    ]


def too_slow(result: dict[str, Any]) -> list[str]:
    """Bars of the design that the result misses, in words."""
    missed = [
        f"{name}: {result['ratio'][name]}x, bar {bar}x" for name, bar in BARS.items() if result["ratio"][name] < bar
    ]
    share = result["checkpoints"]["share"]
    if share > MAX_CHECKPOINT_SHARE:
        missed.append(f"checkpoints cost {share:.1%}, bar {MAX_CHECKPOINT_SHARE:.0%}")
    mfu = result["full_tuning"].get("mfu")
    if mfu is not None and mfu < MIN_MFU:
        missed.append(f"MFU is {mfu:.1%}, bar {MIN_MFU:.0%}")
    return missed


def print_tables(result: dict[str, Any]) -> None:
    """The result for a person, on stderr: stdout is JSON alone."""
    steps = f"Steps {WARM_STEPS + 1} to {COMPARED_STEPS}, {result['num_tokens']} tokens"
    table = Table(title=f"{steps}, medians of {result['repeats']}")
    for column in ("", "seconds", "CPU seconds", "tokens/s", "ours is", "bar", "peak memory"):
        table.add_column(column, justify="right")
    for name, seconds in result["seconds"].items():
        ratio = f"{result['ratio'][name]}x" if name in BARS else ""
        bar = f"{BARS[name]}x" if name in BARS else ""
        times = (f"{seconds}", f"{result['cpu_s'][name]}", f"{result['tokens_per_s'][name]}")
        table.add_row(name, *times, ratio, bar, f"{result['peak_gib'][name]:.2f} GiB")
    console.print(table)
    console.print(
        f"a checkpoint every {CHECKPOINT_EVERY} steps costs {result['checkpoints']['share']:.1%} of the time (bar "
        f"{MAX_CHECKPOINT_SHARE:.0%}); the loop is blocked {result['checkpoints']['blocked_share']:.1%} of it"
    )
    console.print(f"full tuning, 7B: {result['full_tuning']}")
    console.print(", ".join(f"{name} {value}" for name, value in result["machine"].items()))
    for missed in result["missed"]:
        console.print(f"missed: {missed}", style="red")


def main() -> int:
    """Run the benchmark; 0 when all runs did the same work."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="folder with p3.jsonl.gz")
    parser.add_argument("--batch", type=int, default=16, help="rows in a step, an even number")
    parser.add_argument(
        "--steps", type=int, default=20, help="of the runs that show what checkpoints cost: 20, 30, ..."
    )
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, in turn")
    options = parser.parse_args()
    if options.steps % CHECKPOINT_EVERY or options.steps < 2 * CHECKPOINT_EVERY:
        parser.error(f"--steps: got {options.steps}, wanted a multiple of {CHECKPOINT_EVERY} from 20 on")
    if options.batch < 2 or options.batch % 2:
        parser.error(f"--batch: got {options.batch}, wanted an even number")
    with tempfile.TemporaryDirectory(prefix="nearfirst-bench-") as name:
        cases = cases_of(Path(name), options)
        counts = token_counts(cases["ours"].data, cases["ours"].model)
        num_tokens = sum(counts[WARM_STEPS * options.batch : COMPARED_STEPS * options.batch])
        result: dict[str, Any] = {
            "bench": "training",
            "machine": machine(),
            "is_p3": (options.data / "p3.jsonl.gz").is_file(),
            "batch": options.batch,
            "steps": options.steps,
            "repeats": options.repeats,
            **compared(in_turn(cases, options.repeats), num_tokens, options.steps),
            "full_tuning": full_tuning(Path(name), cases["ours"]),
        }
    wrong = different_work(result)
    result["missed"] = [*wrong, *too_slow(result)]
    print(json.dumps(result))
    print_tables(result)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
