"""The encoders against SentenceTransformer.encode with its defaults, and a second embedding against the first.

    python tests/bench/bench_embedding.py [--data FOLDER] [--texts 2000] [--repeats 5]

Prints one JSON object (stdout) and a table (stderr), and says which bars of the design are missed; exits 1 when vectors
differ by more than they may (how fast they are depends on what else the machine does). Each repeat runs the
library (batches of 32, sorted by length, fp32), then `exact`, then `fast` on the same real texts in one process; ratios
are of medians. The cached embedding is timed as `nearfirst embed` runs it, a process of its own each time, imports and
all, once with an empty cache and then with a full one. Arrangements run over HTTP on an embedded suite: the first
embeds nine tenths of the texts as the pool and the rest as the test set, further ones (other seeds) embed nothing.
"""

import argparse
import gzip
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from nearfirst.client.api import Client
from nearfirst.client.progress import progress_bar
from nearfirst.contracts.arrangements import ArrangementSpec, Precision, Representation
from nearfirst_embedding import sentence_transformer
from nearfirst_embedding.processor import cpu_name, has_bf16, inference_device

DEFAULT_DATA = Path(__file__).parents[3] / "shared" / "data"
MODEL = "package:all-MiniLM-L6-v2"
BUNDLED = files("nearfirst.data.bundled")
BARS = {"exact": 1.0, "fast": 2.0, "cached": 20.0, "arranged": 20.0}
MIN_COSINE_FAST = 0.9998
MAX_DIFFERENCE_EXACT = 1e-5

Vectors = npt.NDArray[np.float32]


def real_rows(folder: Path, num_texts: int) -> list[dict[str, Any]]:
    """Rows of real P3, drawn evenly over the file; the bundled data's where there is no P3."""
    p3 = folder / "p3.jsonl.gz"
    content = p3.read_bytes() if p3.is_file() else BUNDLED.joinpath("instructions.jsonl.gz").read_bytes()
    rows = [json.loads(line) for line in gzip.decompress(content).splitlines()]
    pairs = [(row["inputs_pretokenized"], row["targets_pretokenized"]) for row in rows]
    chosen = np.linspace(0, len(pairs) - 1, min(num_texts, len(pairs))).astype(int)
    return [{"prompt": pairs[row][0], "completion": pairs[row][1]} for row in chosen]


def timed(work: Callable[[], Vectors]) -> tuple[Vectors, float]:
    """What `work` returns, and the seconds it took."""
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def library() -> Callable[[list[str]], Vectors]:
    """`SentenceTransformer.encode` as it comes, on the same device."""
    from sentence_transformers import SentenceTransformer

    from nearfirst_embedding.models import resolve_encoder

    model = SentenceTransformer(str(resolve_encoder(MODEL).folder), device=inference_device())
    return lambda texts: model.encode(texts, normalize_embeddings=True, show_progress_bar=False)


def ours(precision: Precision) -> Callable[[list[str]], Vectors]:
    """The encoder of a precision, loaded."""
    encoder = sentence_transformer.load(Representation(model=MODEL, precision=precision))
    _ = encoder.model
    return lambda texts: encoder.encode_texts(texts).vectors


def compare(texts: list[str], repeats: int) -> dict[str, Any]:
    """Library, exact and fast in turn; medians and differences."""
    encoders = {"library": library(), "exact": ours(Precision.EXACT)}
    if has_bf16():
        encoders["fast"] = ours(Precision.FAST)
    seconds: dict[str, list[float]] = {name: [] for name in encoders}
    vectors: dict[str, Vectors] = {}
    with progress_bar("encoding") as progress:
        for repeat in range(repeats):
            for place, (name, encode) in enumerate(encoders.items()):
                vectors[name], taken_s = timed(lambda encode=encode: encode(texts))
                seconds[name].append(taken_s)
                progress(repeat * len(encoders) + place + 1, repeats * len(encoders), "runs")
    result: dict[str, Any] = {}
    for name, runs_s in seconds.items():
        median_s = statistics.median(runs_s)
        result[name] = {
            "median_s": round(median_s, 3),
            "texts_per_s": round(len(texts) / median_s, 1),
            "ratio": round(statistics.median(seconds["library"]) / median_s, 3),
            "max_difference": float(np.abs(vectors[name] - vectors["library"]).max()),
            "min_cosine": float((vectors[name].astype(np.float64) * vectors["library"]).sum(axis=1).min()),
        }
    return result


def compare_cached(rows: list[dict[str, Any]], repeats: int) -> dict[str, Any]:
    """`nearfirst embed` with an empty cache, once, and with a full one, `repeats` times."""
    with tempfile.TemporaryDirectory(prefix="nearfirst-bench-") as name:
        folder = Path(name)
        (folder / "data.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        command = [sys.executable, "-m", "nearfirst.client", "embed", "--model", MODEL, "--data", "data.jsonl"]
        environment = os.environ | {"NEARFIRST_EMBEDDING_CACHE_DIR": str(folder / "cache")}

        def embed(run: int) -> Vectors:
            out = f"{run}.npy"
            subprocess.run([*command, "--out", out], cwd=folder, env=environment, check=True, capture_output=True)
            vectors: Vectors = np.load(folder / out)
            return vectors

        first, first_s = timed(lambda: embed(0))
        seconds = []
        for run in range(1, repeats + 1):
            again, taken_s = timed(lambda run=run: embed(run))
            seconds.append(taken_s)
            assert again.tobytes() == first.tobytes(), "the cache gave other bytes"
    second_s = statistics.median(seconds)
    return {"first_s": round(first_s, 3), "median_s": round(second_s, 3), "ratio": round(first_s / second_s, 1)}


def compare_arrangements(rows: list[dict[str, Any]], repeats: int) -> dict[str, Any]:
    """Arrangements over HTTP on a suite of its own: the first, which embeds, and further ones of the same data."""
    num_test = len(rows) // 10
    with tempfile.TemporaryDirectory(prefix="nearfirst-bench-") as name:
        folder, port = Path(name), free_port()
        for side, part in (("train", rows[num_test:]), ("test", rows[:num_test])):
            (folder / f"{side}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in part))
        command = [sys.executable, "-m", "nearfirst.client", "up", "--home", str(folder / "home"), "--port", str(port)]
        suite = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            with Client(f"http://127.0.0.1:{port}") as client:
                while not client.is_ready():
                    time.sleep(0.1)
                sides = {side: client.register_dataset(folder / f"{side}.jsonl").id for side in ("train", "test")}
                seconds = [timed(lambda run=run: _arrange(client, sides, run))[1] for run in range(repeats + 1)]
        finally:
            suite.terminate()
            suite.wait()
    first_s, again_s = seconds[0], statistics.median(seconds[1:])
    return {"first_s": round(first_s, 3), "median_s": round(again_s, 3), "ratio": round(first_s / again_s, 1)}


def _arrange(client: Client, sides: dict[str, str], run: int) -> None:
    representation = Representation(model=MODEL)
    spec = ArrangementSpec(method="wsd", order="rt", seed=run, representation=representation, **sides)
    ended = client.wait(client.arrange(spec).id)
    assert ended.state == "succeeded", ended.error


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def machine() -> dict[str, Any]:
    """What the times were measured on."""
    import torch

    return {
        "processor": torch.cuda.get_device_name() if inference_device() == "cuda" else cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "torch_threads": torch.get_num_threads(),
        "bf16": has_bf16(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "sentence_transformers": version("sentence-transformers"),
    }


def too_slow(result: dict[str, Any]) -> list[str]:
    """Speed bars of the design that the result misses, in words."""
    return [
        f"{name} is {result[name]['ratio']}x, bar {bar}x"
        for name, bar in BARS.items()
        if name in result and result[name]["ratio"] < bar
    ]


def too_different(result: dict[str, Any]) -> list[str]:
    """Vectors that are farther from the library's than they may be, in words."""
    missed = []
    if result["exact"]["max_difference"] > MAX_DIFFERENCE_EXACT:
        missed.append(f"exact differs by {result['exact']['max_difference']}, bar {MAX_DIFFERENCE_EXACT}")
    if "fast" in result and result["fast"]["min_cosine"] < MIN_COSINE_FAST:
        missed.append(f"fast has cosine {result['fast']['min_cosine']}, bar {MIN_COSINE_FAST}")
    return missed


def print_table(result: dict[str, Any]) -> None:
    """The result for a person, on stderr: stdout is JSON alone."""
    table = Table(title=f"{result['num_texts']} texts, all-MiniLM-L6-v2, medians of {result['repeats']}")
    for column in ("", "seconds", "texts/s", "ratio", "bar", "max difference", "min cosine"):
        table.add_column(column, justify="right")
    for name in ("library", "exact", "fast"):
        if name not in result:
            table.add_row(name, "no bf16 here")
            continue
        row = result[name]
        bar = f"{BARS[name]}x" if name in BARS else ""
        table.add_row(
            *(name, str(row["median_s"]), str(row["texts_per_s"]), f"{row['ratio']}x", bar),
            *(f"{row['max_difference']:.1e}", f"{row['min_cosine']:.6f}"),
        )
    for name, shown in (("cached", "embed"), ("arranged", "arrange")):
        times = result[name]
        table.add_row(f"{shown}, first", str(times["first_s"]))
        table.add_row(f"{shown}, again", str(times["median_s"]), "", f"{times['ratio']}x", f"{BARS[name]}x", "0", "1")
    console = Console(stderr=True)
    console.print(table)
    console.print(", ".join(f"{name} {value}" for name, value in result["machine"].items()))
    for missed in result["missed"]:
        console.print(f"missed: {missed}", style="red")


def main() -> int:
    """Run the benchmark; 0 when the vectors are right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="folder with p3.jsonl.gz")
    parser.add_argument("--texts", type=int, default=2000, help="how many texts")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each, in turn")
    options = parser.parse_args()
    rows = real_rows(options.data, options.texts)
    result: dict[str, Any] = {
        "bench": "embedding",
        "machine": machine(),
        "num_texts": len(rows),
        "is_p3": (options.data / "p3.jsonl.gz").is_file(),
        "repeats": options.repeats,
        **compare([f"{row['prompt']} {row['completion']}" for row in rows], options.repeats),
        "cached": compare_cached(rows, options.repeats),
        "arranged": compare_arrangements(rows, options.repeats),
    }
    wrong = too_different(result)
    result["missed"] = [*wrong, *too_slow(result)]
    print(json.dumps(result))
    print_table(result)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
