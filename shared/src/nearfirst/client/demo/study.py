"""The demo's experiment: one arrangement per order, one training job per order and seed, all submitted at once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil
from typing import Any

from nearfirst.client.api import Client
from nearfirst.client.errors import ApiError, ServerUnreachable
from nearfirst.contracts.arrangements import ArrangementSpec, Method, Order, Representation, Selection
from nearfirst.contracts.datasets import Dataset
from nearfirst.contracts.problems import InvalidInput
from nearfirst.contracts.training import (
    EvaluateSpec,
    ModelSpec,
    OptimizerSpec,
    ScheduleSpec,
    TrainSpec,
)

ENCODER = "package:all-MiniLM-L6-v2"
NUM_MEASUREMENTS = 20
"""About as many test-loss measurements a run makes, besides the one before the first step."""


@dataclass(frozen=True)
class Line:
    """One line of the figure: a way to order the training data."""

    method: Method
    order: Order

    @property
    def is_seeded(self) -> bool:
        """Whether the order itself is drawn, so that each seed has an order of its own."""
        return self.order is Order.RT

    def __str__(self) -> str:
        return f"{self.method.value} {self.order.value}"


LINES = (
    Line(Method.TMA, Order.NFT),
    Line(Method.TMA, Order.FFT),
    Line(Method.TMA, Order.RT),
    Line(Method.WSD, Order.NFT),
)


@dataclass(frozen=True)
class StepPlan:
    """How long each run is, and when it measures."""

    steps: int
    """A multiple of 4 * `every`."""
    every: int
    """Steps between two measurements."""

    @property
    def quarter(self) -> int:
        """The step at a quarter of the run; always measured."""
        return self.steps // 4


def plan_steps(num_rows: int, batch_size: int) -> StepPlan:
    """The longest run of full steps whose quarter is measured, with about `NUM_MEASUREMENTS` measurements.

    Among intervals between 3/4 and 3/2 of `steps / NUM_MEASUREMENTS`, the one that leaves out the fewest steps; of
    several, the one nearest to `steps / NUM_MEASUREMENTS`.

    Args:
        num_rows: rows in the training set.
        batch_size: rows in an optimizer step.

    Raises:
        InvalidInput: fewer than four full steps.

    >>> plan_steps(1300, 16)
    StepPlan(steps=80, every=4)
    """
    full_steps = num_rows // batch_size
    if full_steps < 4:
        raise InvalidInput(
            f"train rows: got {num_rows}, wanted at least {4 * batch_size} for four steps of {batch_size}"
        )
    target = Fraction(full_steps, NUM_MEASUREMENTS)
    longest = max(1, min(int(target * 3 / 2), full_steps // 4))
    intervals = range(min(max(1, ceil(target * 3 / 4)), longest), longest + 1)
    every = min(intervals, key=lambda interval: (full_steps % (4 * interval), abs(interval - target)))
    return StepPlan(steps=full_steps - full_steps % (4 * every), every=every)


@dataclass(frozen=True)
class Recipe:
    """What all training jobs of a study share."""

    model_folder: str
    """Where the server finds config.json and the tokenizer."""
    plan: StepPlan
    batch_size: int
    lr: float
    schedule: ScheduleSpec
    max_length: int

    def title(self) -> str:
        """The training in a few words of the figure."""
        return f"{self.plan.steps} steps of {self.batch_size} rows"

    def describe(self) -> dict[str, Any]:
        """The report's account of the training."""
        return {
            "steps": self.plan.steps,
            "evaluate_every": self.plan.every,
            "global_batch_size": self.batch_size,
            "lr": self.lr,
            "schedule": self.schedule.model_dump(),
            "max_length": self.max_length,
        }


@dataclass(frozen=True)
class Job:
    """A training job of the study."""

    id: str
    line: Line
    seed: int
    """Draws the model's weights and, for a seeded order, the order."""
    arrangement_id: str


@dataclass
class Study:
    """What was submitted."""

    arrangements: dict[tuple[Line, int], str] = field(default_factory=dict)
    """Arrangement ids by line and the arrangement's seed."""
    jobs: list[Job] = field(default_factory=list)

    def submit(self, client: Client, train: Dataset, test: Dataset, seeds: Sequence[int], recipe: Recipe) -> None:
        """Submit every arrangement and every training job, seed by seed, so that the lines grow together.

        An order that isn't drawn is arranged once for all seeds.
        """
        for seed in seeds:
            for line in LINES:
                key = (line, seed if line.is_seeded else seeds[0])
                if key not in self.arrangements:
                    self.arrangements[key] = client.arrange(_arrangement_spec(line, key[1], train, test)).id
                arrangement_id = self.arrangements[key]
                job_id = client.train(_train_spec(arrangement_id, seed, test, recipe)).id
                self.jobs.append(Job(job_id, line, seed, arrangement_id))

    def cancel(self, client: Client) -> None:
        """Cancel what hasn't ended, so that a server that goes on, or is started again, doesn't do it for nobody."""
        for run_id in [*(job.id for job in self.jobs), *self.arrangements.values()]:
            try:
                client.cancel(run_id)
            except ApiError:
                continue  # it has ended
            except ServerUnreachable:
                return

    def labels(self, client: Client) -> dict[str, str]:
        """What to call each run, and the embeddings that the arrangements wait for, by id."""
        labels = {job.id: f"train {job.line} seed {job.seed}" for job in self.jobs}
        for (line, _), run_id in self.arrangements.items():
            labels[run_id] = f"arrange {line}"
            labels.update(dict.fromkeys(client.arrangement(run_id).waits_for, "embed"))
        return labels


def _arrangement_spec(line: Line, seed: int, train: Dataset, test: Dataset) -> ArrangementSpec:
    return ArrangementSpec(
        train=Selection(dataset=train.id),
        test=Selection(dataset=test.id),
        representation=Representation(model=ENCODER),
        method=line.method,
        order=line.order,
        seed=seed,
    )


def _train_spec(arrangement_id: str, seed: int, test: Dataset, recipe: Recipe) -> TrainSpec:
    return TrainSpec(
        arrangement=arrangement_id,
        model=ModelSpec(name_or_path=recipe.model_folder, init="random"),
        global_batch_size=recipe.batch_size,
        max_length=recipe.max_length,
        max_steps=recipe.plan.steps,
        optimizer=OptimizerSpec(lr=recipe.lr),
        schedule=recipe.schedule,
        evaluate=EvaluateSpec(test=Selection(dataset=test.id), every=recipe.plan.every),
        seed=seed,
    )
