"""Twenty kills at random points, through the real queue on PostgreSQL, Redis and Celery: `make check-kills`.

Two jobs, of one process and of two, are killed ten times each: a rank, the whole trainer, the worker, or both; while a
step is made, while a checkpoint is written, or while they start. Their weights, states, receipts and logs are compared
with those of the same jobs undisturbed. A witness that hangs on torch's optimizer tells which attempt made which step
when (tests/support/witness).
"""

import contextlib
import itertools
import json
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL

import psutil
import pytest
from sqlalchemy import select
from tests.support.services import PostgresServer, RedisServer
from tests.support.suite import REPOSITORY, RunningSuite
from tests.support.tiny import make_tiny_llama
from tests.support.trainers import family_of, ranks_of, wait_for_ranks

from nearfirst.contracts.runs import RunState
from nearfirst.registry.database import Database
from nearfirst.registry.models import EventRow

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SEED = 20_260_711
NUM_KILLS = 10
"""Of each of the two jobs."""
NUM_ROWS, BATCH_SIZE, NUM_STEPS = 60, 8, 600
CHECKPOINT_EVERY = 5
MOST_STEPS_BETWEEN_KILLS = 40
"""Together with what is made again after each kill, all kills fall into the first NUM_STEPS."""
WAIT_S = 90
WITNESS = REPOSITORY / "tests/support/witness"

LONGEST_DELAY_S = {"step": 0.03, "checkpoint": 0.01, "start": 3.0}
MOMENTS = ["step"] * 4 + ["checkpoint"] * 4 + ["start"] * 2
VICTIMS = {
    1: ["trainer"] * 4 + ["worker"] * 3 + ["both"] * 3,
    2: ["one rank"] * 4 + ["trainer"] * 2 + ["worker"] * 2 + ["both"] * 2,
}


@dataclass(frozen=True)
class Update:
    """One optimizer step of one rank, as the witness saw it; times are seconds since 1970."""

    run: str
    attempt: int
    rank: int
    update: int
    began_s: float
    ended_s: float


class Witness:
    """Reads what the trainings' witness has written so far."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self._file = path.open()
        self._rest = ""
        self._updates: list[Update] = []

    def updates(self, run: str) -> list[Update]:
        """Every update of a run so far, in the order of their ends."""
        *lines, self._rest = (self._rest + self._file.read()).split("\n")
        self._updates += [Update(**json.loads(line)) for line in lines]
        return [update for update in self._updates if update.run == run]

    def close(self) -> None:
        self._file.close()

    def num_updates(self, run: str, attempt: int) -> int:
        """Updates that the first rank has made in this attempt."""
        return sum(update.attempt == attempt and update.rank == 0 for update in self.updates(run))


@dataclass
class Arena:
    """A suite whose training worker is started anew each time that it is killed."""

    suite: RunningSuite
    witness: Witness
    worker: str = ""

    def start_worker(self) -> None:
        number = int(self.worker.rpartition("-")[2] or 0) + 1
        self.worker = f"worker-{number}"
        self.suite.start_worker("tests.support.witnessed_worker:app", self.worker)

    def run_folder(self, job_id: str) -> Path:
        return self.suite.home / "runs" / job_id


@pytest.fixture(scope="module")
def arena(
    tmp_path_factory: pytest.TempPathFactory,
    postgres_server: PostgresServer,
    migrated_template: str,
    redis_server: RedisServer,
) -> Iterator[Arena]:
    home = tmp_path_factory.mktemp("home")
    witness_file = tmp_path_factory.mktemp("witness") / "updates.jsonl"
    suite = RunningSuite(
        home,
        postgres_server.create_database(template=migrated_template),
        redis_server.url(1),
        NEARFIRST_MAX_CRASHES="1000",
        NEARFIRST_MAX_LOST_LEASES="1000",
        WITNESS_FILE=str(witness_file),
        PYTHONPATH=":".join(map(str, filter(None, [WITNESS, REPOSITORY, os.environ.get("PYTHONPATH")]))),
    )
    texts = [row["prompt"] for row in rows()]
    make_tiny_llama(home / "models" / "tiny", texts, vocab_size=1000, hidden_size=128, layers=2, heads=4)
    arena = Arena(suite, Witness(witness_file))
    arena.start_worker()
    suite.start_api()
    yield arena
    suite.close()
    arena.witness.close()


def rows() -> list[dict[str, str]]:
    return [
        {"id": f"row-{n}", "prompt": f"Say {'very ' * (n % 7)}{n}.", "completion": f"{n} " * (1 + n % 5)}
        for n in range(NUM_ROWS)
    ]


@pytest.fixture(scope="module")
def dataset(arena: Arena) -> str:
    path = arena.suite.home / "data" / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows()))
    return str(arena.suite.upload(path)["id"])


@pytest.fixture
def submit(arena: Arena, dataset: str) -> Callable[[int], str]:
    def post(processes: int) -> str:
        body = {
            "dataset": dataset,
            "model": {"name_or_path": str(arena.suite.home / "models" / "tiny"), "init": "random"},
            "global_batch_size": BATCH_SIZE,
            "max_length": 64,
            "epochs": 1000,
            "max_steps": NUM_STEPS,
            "optimizer": {"lr": 1e-3},
            "processes": processes,
            "checkpoint": {
                "weights_every": CHECKPOINT_EVERY,
                "state_every": CHECKPOINT_EVERY,
                "keep_weights": 2,
            },
        }
        return arena.suite.post("/train-jobs", body)

    return post


@dataclass(frozen=True)
class Kill:
    """What is killed, and when in its attempt."""

    victim: str
    moment: str
    after_updates: int
    delay_s: float

    def wait(self, arena: Arena, job_id: str, attempt: int, processes: int) -> float:
        """Until its moment has come in this attempt; returns a time before the attempt made anything."""
        began_s = time.time()
        wait_for_attempt(arena, job_id, attempt)
        wait_for_ranks(arena.suite.pid(arena.worker), processes, WAIT_S)
        if self.moment == "start":
            time.sleep(self.delay_s)
            return began_s
        wait_until(lambda: arena.witness.num_updates(job_id, attempt) >= self.after_updates)
        if self.moment == "checkpoint":
            wait_until(lambda: bool(half_written(arena.run_folder(job_id), began_s)), poll_s=0.0)
        time.sleep(self.delay_s)
        return began_s

    def strike(self, arena: Arena, chance: random.Random) -> None:
        """SIGKILL."""
        worker = arena.suite.pid(arena.worker)
        match self.victim:
            case "one rank":
                kill([chance.choice(sorted(ranks_of(worker).items()))[1]])
            case "trainer":
                kill(family_of(worker))
            case "worker":
                arena.suite.signal(arena.worker, SIGKILL)
            case "both":
                family = family_of(worker)
                arena.suite.signal(arena.worker, SIGKILL)
                kill(family)
        if self.victim in ("worker", "both"):
            arena.start_worker()


def draw_kills(chance: random.Random, processes: int) -> list[Kill]:
    victims, moments = (chance.sample(each, NUM_KILLS) for each in (VICTIMS[processes], MOMENTS))
    return [
        Kill(victim, moment, chance.randint(1, MOST_STEPS_BETWEEN_KILLS), chance.uniform(0, LONGEST_DELAY_S[moment]))
        for victim, moment in zip(victims, moments, strict=True)
    ]


def kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def wait_until(condition: Callable[[], bool], poll_s: float = 0.005) -> None:
    give_up = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(poll_s)


def wait_for_attempt(arena: Arena, job_id: str, attempt: int) -> None:
    def is_there() -> bool:
        job = arena.suite.get(f"/train-jobs/{job_id}")
        assert job["state"] in ("queued", "running"), job
        return (job["attempt"], job["state"]) == (attempt, "running")

    wait_until(is_there, poll_s=0.05)


def half_written(run_folder: Path, since_s: float) -> list[str]:
    """Checkpoints that are being written, or that a kill left half written, not before this time."""
    found = []
    for step in run_folder.glob("checkpoints/step-*"):
        with contextlib.suppress(FileNotFoundError):  # the trainer deletes old ones meanwhile
            for path in step.iterdir():
                if path.suffix == ".partial" and path.stat().st_mtime > since_s:
                    found.append(f"{step.name}/{path.stem}")
    return found


def lease_periods(arena: Arena, job_id: str) -> list[tuple[float, float]]:
    """From when to when each attempt had the run: its claim, and the end of its lease (PostgreSQL's clock)."""
    database = Database(arena.suite.settings()["database_url"])
    with database.read() as session:
        query = select(EventRow).where(EventRow.run_id == job_id, EventRow.type == "state").order_by(EventRow.seq)
        events = [(event.data["state"], event.created_at.timestamp()) for event in session.execute(query).scalars()]
    database.close()
    return [
        (began_s, ended_s) for (state, began_s), (_, ended_s) in itertools.pairwise(events) if state == RunState.RUNNING
    ]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_job_killed_ten_times_ends_as_if_nothing_had_happened(
    arena: Arena, submit: Callable[[int], str], capsys: pytest.CaptureFixture[str], processes: int
) -> None:
    suite = arena.suite
    undisturbed = submit(processes)
    assert suite.wait(f"/train-jobs/{undisturbed}", timeout_s=WAIT_S)["attempt"] == 1
    chance = random.Random(SEED + processes)
    job_id = submit(processes)
    for attempt, planned in enumerate(draw_kills(chance, processes), start=1):
        began_s = planned.wait(arena, job_id, attempt, processes)
        planned.strike(arena, chance)
        made = [update.update for update in arena.witness.updates(job_id) if update.attempt == attempt]
        where = f"step {max(made)}" if made else "its start"
        half = "".join(f", {name} half written" for name in half_written(arena.run_folder(job_id), began_s))
        with capsys.disabled():
            print(f"\njob of {processes}, attempt {attempt}: {planned.victim} killed at {where}{half}", end="")
    done = suite.wait(f"/train-jobs/{job_id}", timeout_s=WAIT_S)
    assert (done["state"], done["attempt"]) == ("succeeded", NUM_KILLS + 1), (done, suite.log(arena.worker))
    check_same_result(arena, job_id, undisturbed)
    check_log(arena.run_folder(job_id) / "consumed.jsonl")
    check_leases(arena.witness.updates(job_id), lease_periods(arena, job_id), processes)


def check_same_result(arena: Arena, job_id: str, undisturbed: str) -> None:
    """The same bytes of weights, states and logs of ids, and the same receipt."""
    folders = [arena.run_folder(each) for each in (job_id, undisturbed)]
    files = [sorted(path.relative_to(folder) for path in folder.rglob("*.safetensors")) for folder in folders]
    assert files[0] == files[1]
    assert {path.parts[1:3] for path in files[0]} >= {(f"step-{NUM_STEPS:06d}", tier) for tier in ("weights", "state")}
    for path in [*files[0], Path("consumed.jsonl"), Path("receipt.json"), Path("order.jsonl")]:
        assert (folders[0] / path).read_bytes() == (folders[1] / path).read_bytes(), path
    receipts = [arena.suite.get(f"/train-jobs/{each}/receipt") for each in (job_id, undisturbed)]
    assert receipts[0] == receipts[1]
    assert (receipts[0]["steps"], receipts[0]["verified"]) == (NUM_STEPS, True)


def check_log(consumed: Path) -> None:
    """Each step once, with the rows that it has in the dataset's own order."""
    steps = [json.loads(line) for line in consumed.read_text().splitlines()]
    assert [step["step"] for step in steps] == list(range(1, NUM_STEPS + 1))
    ids = itertools.cycle(row["id"] for row in rows())
    assert [step["ids"] for step in steps] == [list(itertools.islice(ids, BATCH_SIZE)) for _ in range(NUM_STEPS)]


def check_leases(updates: list[Update], leases: list[tuple[float, float]], processes: int) -> None:
    """Each update was made under its own attempt's lease and no other; together the attempts made the whole run."""
    assert len(leases) == NUM_KILLS + 1
    assert all(ended_s <= began_s for (_, ended_s), (began_s, _) in itertools.pairwise(leases))
    for update in updates:
        began_s, ended_s = leases[update.attempt - 1]
        assert began_s <= update.began_s <= update.ended_s <= ended_s, update
    for rank in range(processes):
        made = [update for update in updates if update.rank == rank]
        assert [update.attempt for update in made] == sorted(update.attempt for update in made)
        reached = 0
        for _, group in itertools.groupby(made, key=lambda update: update.attempt):
            numbers = [update.update for update in group]
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
            assert numbers[0] <= reached + 1  # it goes on where the last one was, or makes some steps again
            assert (numbers[0] - 1) % CHECKPOINT_EVERY == 0
            reached = numbers[-1]
        assert reached == NUM_STEPS
