"""Studies: which order of the training data helps, asked with several seeds at once (DESIGN section 8).

A study is arrangements times seeds. For each of these pairs it has three nodes, which are runs of their own:

    arrangement  ->  train job  ->  evaluation

Equal arrangements are one run, for all seeds whose order doesn't depend on the seed and for all studies.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from nearfirst.contracts.arrangements import ArrangementRules, Representation, SelectionField
from nearfirst.contracts.base import Contract
from nearfirst.contracts.estimates import TrainEstimate
from nearfirst.contracts.evaluations import EvaluationSettings, MetricName
from nearfirst.contracts.runs import Progress, RunKind, RunState
from nearfirst.contracts.training import TrainSettings

MAX_RUNS = 512
"""Most train jobs of a study."""

Label = Annotated[str, StringConstraints(min_length=1, max_length=100, strip_whitespace=True)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]

FigureLayout = Literal["study", "metrics", "tasks", "similarity", "datasets", "rounds"]
"""`study`: the first metric, and each arrangement minus the baseline; `metrics`: every metric, as the paper's figure 1;
`tasks`: the loss of `figure_tasks` (figure 2); the others show the arrangements' `panels` side by side (figures 3, 4,
5)."""
MAX_PANELS: dict[FigureLayout, int] = {"similarity": 2, "datasets": 24, "rounds": 2}
"""Of the layouts that go by panels."""


class StudyArrangement(ArrangementRules):
    """One way to order the training data."""

    label: Label
    """What figures and tables call it."""
    train: SelectionField | None = None
    """Its own training rows; None: the study's."""
    follows_seeds: bool = True
    """Where the order depends on a seed, it takes the study's seeds. False: all runs have the order of `seed`."""
    baseline: Label | None = None
    """The arrangement that it is compared with; None: the study's baseline. Itself: it is compared with none."""
    panels: list[Label] = Field(default_factory=list, max_length=24)
    """In which panels of the figure it is drawn; none: in all. A label that ends with ` of PANEL` is shown in that one
    without it."""

    @model_validator(mode="after")
    def _seed_is_used(self) -> "StudyArrangement":
        if self.seed and self.is_seeded and self.follows_seeds:
            raise ValueError(f"seed {self.seed} goes with follows_seeds: false; else the order takes the study's seeds")
        return self

    def rules(self, seed: int) -> ArrangementRules:
        """The rules of the order that the run of a seed trains on."""
        rules = ArrangementRules(**{name: getattr(self, name) for name in ArrangementRules.model_fields})
        if not rules.is_seeded:
            return rules.model_copy(update={"seed": 0})
        return rules.model_copy(update={"seed": seed}) if self.follows_seeds else rules


class StudySpec(Contract):
    """The body of POST /studies."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True)]
    question: str = Field(default="", max_length=10_000)
    """What it is to answer."""
    train: SelectionField
    test: SelectionField
    """What the orders are for, and what is measured."""
    representation: Representation | None = None
    """As in POST /arrangements."""
    arrangements: list[StudyArrangement] = Field(min_length=1, max_length=64)
    baseline: str | None = None
    """Label of the arrangement that the others are compared with. None: the first, with a warning."""
    seeds: list[Seed] = Field(default=[0], min_length=1, max_length=64)
    """A training for each arrangement and seed. The seed draws weights with `init: random`, dropout, and the orders
    that are drawn."""
    training: TrainSettings
    evaluation: EvaluationSettings = Field(default_factory=EvaluationSettings)
    figure: FigureLayout = "study"
    figure_tasks: list[str] | None = Field(default=None, min_length=1, max_length=24)
    """With `figure: tasks`: which tasks of the test set."""
    priority: int = Field(default=0, ge=-10, le=10)
    """Of its train jobs and units."""

    @model_validator(mode="after")
    def _fields_fit_together(self) -> "StudySpec":
        labels = [arrangement.label for arrangement in self.arrangements]
        if repeated := _repeated(labels):
            raise ValueError(f"arrangements: the label {repeated[0]!r} is used twice")
        for baseline in (self.baseline, *(arrangement.baseline for arrangement in self.arrangements)):
            if baseline is not None and baseline not in labels:
                raise ValueError(f"baseline: got {baseline!r}, wanted one of the labels {labels}")
        if repeated_seeds := _repeated(self.seeds):
            raise ValueError(f"seeds: {repeated_seeds[0]} is used twice")
        if self.num_runs > MAX_RUNS:
            raise ValueError(
                f"{len(labels)} arrangements times {len(self.seeds)} seeds are {self.num_runs} train jobs, a study has "
                f"at most {MAX_RUNS}"
            )
        if self.training.seed:
            raise ValueError(f"training.seed: got {self.training.seed}; the study's seeds take its place")
        return self

    @model_validator(mode="after")
    def _figure_fits(self) -> "StudySpec":
        if (self.figure == "tasks") != (self.figure_tasks is not None):
            raise ValueError(f"figure_tasks go with figure: tasks, which wants them; got figure: {self.figure}")
        if self.figure == "tasks" and MetricName.LOSS not in self.evaluation.metrics:
            raise ValueError("figure tasks draws the loss, which is none of evaluation.metrics")
        most = MAX_PANELS.get(self.figure)
        if most is None and any(arrangement.panels for arrangement in self.arrangements):
            raise ValueError(f"panels go with the figures {', '.join(MAX_PANELS)}; got figure: {self.figure}")
        if most is not None and len(self.panels) > most:
            raise ValueError(f"figure {self.figure} has at most {most} panels, got {list(self.panels)}")
        if most is not None and MetricName.LOSS not in self.evaluation.metrics:
            raise ValueError(f"figure {self.figure} draws the loss, which is none of evaluation.metrics")
        return self

    @property
    def num_runs(self) -> int:
        """Train jobs."""
        return len(self.arrangements) * len(self.seeds)

    @property
    def panels(self) -> tuple[str, ...]:
        """Of the figure, in the order in which arrangements name them."""
        return tuple(dict.fromkeys(panel for arrangement in self.arrangements for panel in arrangement.panels))


def _repeated(values: Sequence[Any]) -> list[Any]:
    return [value for value, count in Counter(values).items() if count > 1]


class AddedSeeds(Contract):
    """The body of POST /studies/{id}/seeds."""

    seeds: list[Seed] = Field(min_length=1, max_length=64)
    """None that the study has."""


class Study(Contract):
    """GET /studies/{id}."""

    id: str
    state: RunState
    """`running` from its first node on; `failed` when a node failed or was cancelled, once all others have ended."""
    is_paused: bool
    """Nothing of it is begun; POST /studies/{id}/resume ends this."""
    progress: Progress | None = None
    """In runs: equal nodes are one."""
    spec: StudySpec
    warnings: list[str] = Field(default_factory=list)
    """What to mend before trusting its answer."""
    error: dict[str, Any] | None = None
    created_at: datetime
    finished_at: datetime | None = None


class StudyNode(Contract):
    """What one arrangement and seed of a study needs: GET /studies/{id}/nodes."""

    arrangement: str
    """Its label."""
    seed: int
    kind: RunKind
    """`arrangement`, `train_job` or `evaluation`."""
    run: str
    """Id of the run; several nodes may have one."""
    state: RunState
    is_held: bool
    """Its study is paused, and it isn't begun."""
    progress: Progress | None = None
    error: dict[str, Any] | None = None


class ArrangementEstimate(Contract):
    """One train job of an arrangement, with any seed."""

    arrangement: str
    """Its label."""
    rows: int
    """Of its order; at most, where TMA's rounds or the paper's limits decide."""
    steps: int
    num_checkpoints: int
    """Weights that stay on the disk."""
    checkpoint_bytes: int | None
    """Weights and states that stay on the disk; None: the model's size isn't known."""
    seconds: float | None
    """Of training steps; None: nothing like it has run yet."""


class StudyEstimate(Contract):
    """The answer to POST /studies?dry_run=true."""

    num_orders: int
    """Arrangements that differ."""
    num_train_jobs: int
    """Those on equal orders with the same seed are one."""
    steps: int
    """Of all train jobs together."""
    num_checkpoints: int
    """Weights of all train jobs together that stay on the disk."""
    checkpoint_bytes: int | None
    """Weights and states of all train jobs together that stay on the disk; None: the model's size isn't known."""
    arrangements: list[ArrangementEstimate]
    train_job: TrainEstimate
    """The longest train job, on rows of its whole training set."""
    train_seconds: float | None
    """All train jobs, one after the other; None: nothing like it has run yet."""
    obstacles: list[str] = Field(default_factory=list)
    """What there isn't room for: POST would refuse it, or its train jobs would fail on the way."""
    warnings: list[str] = Field(default_factory=list)
    """What to mend before trusting its answer."""
