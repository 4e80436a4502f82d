"""`python -m tests.smoke.run`: build the images, bring the whole stack up, do the main job over HTTP, take it down.

On the way PostgreSQL, Redis, each server and each worker are restarted once, while the job is with them. The receipt
must be right at the end, and no run lost. It is a stack of its own beside one that is in use: another name, other ports
and volumes. Exit status 1 when anything is wrong.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.smoke import checks
from tests.smoke.job import JobFailed, MainJob, has_done, has_succeeded, wait_until
from tests.smoke.models import make_models
from tests.smoke.stack import Stack, StackFailed
from tests.smoke.stops import StopWatch, longest_stops

from nearfirst.client.api import Client


class Clock:
    """Prints what is being done, and keeps how long each step took."""

    def __init__(self) -> None:
        self.times_s: dict[str, float] = {}
        self._started_s = time.monotonic()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a step; its line says how it ended."""
        started_s = time.monotonic()
        how = "FAILED"
        try:
            yield
            how = "ok"
        finally:
            self.times_s[name] = round(time.monotonic() - started_s, 1)
            print(f"[{time.monotonic() - self._started_s:7.1f} s] {name}: {how}, {self.times_s[name]} s", flush=True)

    @property
    def total_s(self) -> float:
        return round(time.monotonic() - self._started_s, 1)


def smoke(stack: Stack, clock: Clock, model: str, reward_model: str) -> list[str]:
    """Everything between the build and the end of the stack; returns what is wrong, one sentence each."""
    with clock.step("up, every service healthy"):
        stack.compose("up", "--detach", "--no-build", "--wait", "--wait-timeout", "1200")
    faults = checks.faults_of_containers(stack)
    with clock.step("a key of the role submit; without one nothing is answered"):
        key = stack.compose("exec", "-T", "api", "nearfirst", "key", "create", "--role", "submit", "--name", "smoke")
        faults += checks.faults_of_access(stack.url)
    with Client(stack.url, key.strip()) as client:
        with clock.step("upload"):
            job = MainJob(client, model, reward_model)
        do_job(stack, clock, client, job)
        with clock.step("receipt recomputed, runs and curve looked at"):
            faults += job.faults()
        with clock.step("every service healthy again"):
            faults += checks.wait_for_health(stack)
        faults += checks.faults_of_workers(client)
    with clock.step("stop"):
        stack.compose("stop")
    return faults + checks.faults_of_logs(stack, key.strip())


def do_job(stack: Stack, clock: Clock, client: Client, job: MainJob) -> None:
    """The main job, with a restart of everything on the way."""
    with clock.step("arrangement, embedding and arrangement workers restarted"):
        arrangement = job.arrange()
        stack.compose("restart", "embedding-worker", "arrangement-worker")
        wait_until(client, arrangement, has_succeeded)
    with clock.step("training, its worker, PostgreSQL and Redis restarted"):
        training = job.train()
        for service, num_steps in (("training-worker", 3), ("postgres", 8), ("redis", 12)):
            wait_until(client, training, has_done(num_steps))
            stack.compose("restart", service)
        wait_until(client, training, has_succeeded)
    with clock.step("evaluation, its workers, all servers and the API restarted"):
        evaluation = job.evaluate()
        stack.compose("restart", "loss-worker", "generation-worker", "scoring-worker")
        wait_until(client, evaluation, has_done(1))
        stack.compose("restart", "generation", "scoring", "embedding", "api")
        wait_until(client, evaluation, has_succeeded)


def run(arguments: argparse.Namespace) -> int:
    """Build, smoke, take down; returns the exit status."""
    clock = Clock()
    result: dict[str, Any] = {"engine": arguments.engine}
    with tempfile.TemporaryDirectory() as folder:
        with clock.step("models"):
            model, reward = (f"/models/{path.name}" for path in make_models(Path(folder)))
        stack = Stack(Path(folder), reward_model=reward, engine=arguments.engine)
        with StopWatch(stack) as watch:
            try:
                with clock.step("build"):
                    stack.compose("build")
                faults = checks.faults_of_images(stack) + smoke(stack, clock, model, reward)
                faults += checks.faults_of_stops(stack, watch.stops())
            except (StackFailed, JobFailed) as error:
                faults = [str(error)]
                print(_or_nothing(lambda: stack.compose("logs", "--no-color", "--tail", "40")), file=sys.stderr)
            finally:
                with clock.step("down"):
                    stack.compose("down", "--volumes", "--remove-orphans", "--timeout", "60")
            result["stops_s"] = longest_stops(watch.stops())
        result["image_gb"] = _or_nothing(lambda: checks.image_sizes(stack))
    result |= {"steps_s": clock.times_s, "total_s": clock.total_s, "faults": faults}
    print(json.dumps(result, indent=2))
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    print("smoke: " + ("; ".join(faults) if faults else f"all well, {clock.total_s} s"))
    return int(bool(faults))


def _or_nothing(ask: Callable[[], Any]) -> Any:
    """An answer of docker that is nice to have."""
    try:
        return ask()
    except StackFailed:
        return None


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("vllm", "transformers"), default="vllm", help="of generation")
    parser.add_argument("--out", type=Path, help="where the times go, as JSON")
    sys.exit(run(parser.parse_args()))
