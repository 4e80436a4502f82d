"""What to arrange, how, and what an arranged row looks like."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, JsonValue, model_validator

from nearfirst.contracts.base import Contract
from nearfirst.contracts.runs import Progress, RunState

MAX_WEIGHT = 1e6
"""Of WSD: beyond it the two distances could no longer be added without one vanishing."""
MAX_ROUND = 2**31 - 1

DEFAULT_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"


class Method(StrEnum):
    """How training rows are ranked against the test set."""

    WSD = "wsd"
    TMA = "tma"
    OT = "ot"
    """Each row's share of the cost of the optimal-transport plan between train and test rows."""
    ROUND_ROBIN = "round_robin"
    """One row of each task in turn."""
    CLUSTER = "cluster"
    """All rows of a task together, in the order in which the tasks first appear."""
    RANDOM = "random"
    AS_IS = "as_is"


class Order(StrEnum):
    """Which end of the ranking comes first."""

    NFT = "nft"
    """Nearest first."""
    FFT = "fft"
    """Farthest first."""
    RT = "rt"
    """Random training: a seeded shuffle."""
    MAX = "max"
    """TMA only: the farthest-chosen rows."""
    MIN = "min"
    """TMA only: the nearest-chosen rows."""


class Fidelity(StrEnum):
    """`paper` does what the paper's code did; `corrected` does what its text says (docs/paper.md)."""

    CORRECTED = "corrected"
    PAPER = "paper"


class Similarity(StrEnum):
    """How near two rows are, both of unit length."""

    COSINE = "cosine"
    """distance = -cosine."""
    EUCLIDEAN = "euclidean"
    """distance = sqrt(2 - 2 cosine), the euclidean distance of unit vectors."""


class Granularity(StrEnum):
    """What is ordered."""

    FINE = "fine"
    """Rows."""
    COARSE = "coarse"
    """Tasks, each by the mean of its rows' embeddings; their rows follow in dataset order."""


class SelectHow(StrEnum):
    """Which rows of a task take part."""

    RANDOM = "random"
    """A seeded draw, in dataset order."""
    FIRST = "first"
    """The first in dataset order."""
    POLAR = "polar"
    """Half the nearest and half the farthest by WSD within the task."""
    UNIFORM = "uniform"
    """Evenly spaced over the task's WSD order."""


class TextRule(StrEnum):
    """Which text of an example is embedded."""

    FIRST_TURN = "first_turn"
    """`"{user} {assistant}"` of the first exchange."""
    ALL_TURNS = "all_turns"
    """All turns joined by a space."""
    INSTRUCTION = "instruction"
    """The first user turn alone."""


class Precision(StrEnum):
    """Arithmetic of an encoder. Part of the embedding cache's key."""

    EXACT = "exact"
    """fp32 throughout."""
    FAST = "fast"
    """bf16 where the processor has it (AMX or AVX512-BF16) and on GPUs; refused elsewhere."""


class Pooling(StrEnum):
    """How a causal language model's hidden states become one vector."""

    MEAN = "mean"
    WEIGHTED_MEAN = "weighted_mean"
    """Token t of T has the weight t / (1 + ... + T), as RDS+ has it."""


class RepresentationKind(StrEnum):
    """The kinds that come with Nearfirst; a plug-in adds its own (docs/representations.md)."""

    SENTENCE_TRANSFORMER = "sentence-transformer"
    CAUSAL_LM = "causal-lm"
    """Pooled last hidden states of any causal language model: RDS+ with `weighted_mean`."""
    PRECOMPUTED = "precomputed"
    """Vectors from .npy files."""


class Representation(Contract):
    """What turns an example into a vector. Part of the embedding cache's key."""

    kind: str = Field(default=RepresentationKind.SENTENCE_TRANSFORMER, pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    """A `RepresentationKind`, or the name under which an installed plug-in is registered."""
    model: str = DEFAULT_ENCODER
    """A hub id, `package:NAME` for weights that a Python package carries, or a folder under the allowed root."""
    revision: str | None = None
    text: TextRule = TextRule.FIRST_TURN
    max_length: int | None = Field(default=None, ge=1)
    """Tokens after which a text is cut; None: the model's own limit."""
    precision: Precision = Precision.EXACT
    pooling: Pooling | None = None
    """causal-lm only; None: weighted_mean."""
    vectors: dict[str, str] | None = None
    """precomputed only: dataset id -> an .npy file under the allowed root with a row for each of its examples."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """A plug-in's own parameters; it validates them."""

    @model_validator(mode="after")
    def _fields_fit_the_kind(self) -> "Representation":
        if self.pooling is not None and self.kind != RepresentationKind.CAUSAL_LM:
            raise ValueError(f"pooling is for kind causal-lm; got kind {self.kind}")
        if (self.vectors is not None) != (self.kind == RepresentationKind.PRECOMPUTED):
            raise ValueError(f"vectors are for kind precomputed, which wants them; got kind {self.kind}")
        if self.options and self.kind in set(RepresentationKind):
            raise ValueError(f"options are for plug-ins; kind {self.kind} takes none")
        return self


class Selection(Contract):
    """Rows of a registered dataset."""

    dataset: str
    tasks: list[str] | None = Field(default=None, min_length=1)
    """Keep only these tasks; None keeps all."""


def _selection_from_id(value: object) -> object:
    """Accept a bare dataset id where a selection is wanted."""
    return {"dataset": value} if isinstance(value, str) else value


SelectionField = Annotated[Selection, BeforeValidator(_selection_from_id)]


class SelectPerTask(Contract):
    """How many rows of each train task take part, and which; a task with fewer rows is kept whole."""

    per_task: int = Field(ge=1)
    how: SelectHow


RANKED_METHODS = frozenset({Method.WSD, Method.TMA, Method.OT})
"""Methods that rank by similarity and therefore take an order."""


class ArrangementRules(Contract):
    """The part of an arrangement that is science alone: no dataset, no encoder."""

    method: Method
    order: Order | None = None
    """Required for wsd, tma and ot; must be absent for the others."""
    similarity: Similarity = Similarity.COSINE
    granularity: Granularity = Granularity.FINE
    """coarse: wsd only."""
    select: SelectPerTask | None = None
    """Applied before arranging; the pool is what it leaves."""
    test_per_task: int | None = Field(default=None, ge=1)
    """Keep the first so many rows of each test task; None keeps all."""
    limit: int | None = Field(default=None, ge=1)
    """Rows to keep. `corrected`: exactly so many; `paper`: whole TMA rounds, so it may overshoot."""
    rounds: tuple[int, int] | None = None
    """TMA: keep rounds [i, j), counted from 0."""
    w_min: float = Field(default=1.0, ge=0, le=MAX_WEIGHT)
    """WSD: weight of the distance to the nearest test row."""
    w_avg: Annotated[float, Field(ge=-MAX_WEIGHT, le=MAX_WEIGHT)] | Literal["auto"] = "auto"
    """WSD: weight of the mean distance; auto = mean_i(min) / mean_i(mean)."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    fidelity: Fidelity = Fidelity.CORRECTED

    @model_validator(mode="after")
    def _fields_fit_together(self) -> "ArrangementRules":
        ordered = self.method in RANKED_METHODS
        if ordered and self.order is None:
            raise ValueError(f"method {self.method} wants an order: nft, fft or rt")
        if not ordered and self.order is not None:
            raise ValueError(f"method {self.method} takes no order, got {self.order}")
        if self.method is not Method.TMA and self.order in (Order.MAX, Order.MIN):
            raise ValueError(f"order {self.order} is for tma; {self.method} takes nft, fft or rt")
        if self.order in (Order.MAX, Order.MIN) and self.limit is None:
            raise ValueError(f"order {self.order} wants a limit: without one it would be the whole pool")
        if self.granularity is Granularity.COARSE and self.method is not Method.WSD:
            raise ValueError(f"granularity coarse is for wsd; got method {self.method}")
        if self.method is Method.OT and self.fidelity is Fidelity.PAPER and self.similarity is Similarity.COSINE:
            raise ValueError("the paper's ot is on the euclidean cost: with fidelity paper give similarity euclidean")
        if self.rounds is not None:
            start, stop = self.rounds
            if self.method is not Method.TMA:
                raise ValueError(f"rounds are for tma; got method {self.method}")
            if self.order in (Order.MAX, Order.MIN):
                raise ValueError(f"rounds go with orders nft, fft and rt; got {self.order}")
            if not 0 <= start < stop <= MAX_ROUND:
                raise ValueError(f"rounds [{start}, {stop}) want 0 <= start < stop <= {MAX_ROUND}")
        if self.method is Method.WSD and self.w_min == 0 and self.w_avg == 0:
            raise ValueError("w_min and w_avg are both 0: every row would have the same score")
        return self

    @property
    def needs_embeddings(self) -> bool:
        """Whether the order depends on similarities."""
        by_wsd = self.select is not None and self.select.how in (SelectHow.POLAR, SelectHow.UNIFORM)
        return self.method in RANKED_METHODS or by_wsd

    @property
    def is_seeded(self) -> bool:
        """Whether the order depends on the seed."""
        by_draw = self.select is not None and self.select.how is SelectHow.RANDOM
        return self.order is Order.RT or self.method is Method.RANDOM or by_draw


class ArrangementSpec(ArrangementRules):
    """The body of POST /arrangements."""

    train: SelectionField
    test: SelectionField
    representation: Representation | None = None
    """Without one, rules that rank by similarity take the default encoder, and the others nothing: their report then
    says nothing of similarities."""


class OrderRow(Contract):
    """One row of an order, in training order; the file keeps one JSON object a line."""

    position: int
    """0 is trained on first."""
    index: int
    """The row's index in the training dataset."""
    id: str
    task: str
    round: int | None = None
    """TMA: the round that chose it, from 0."""
    score: float | None = None
    """WSD score (a distance: smaller is nearer); TMA: similarity to the test row that chose it."""
    nearest_test_id: str | None = None
    nearest_similarity: float | None = None
    """Cosine similarity to its nearest test row, -1 to 1."""
    prefix_digest: str
    """Hex sha256 chain over the dataset's digest and the ids up to this row (contracts/receipts.py)."""


class Arrangement(Contract):
    """GET /arrangements/{id}."""

    id: str
    state: RunState
    progress: Progress | None = None
    spec: ArrangementSpec
    digest: str | None = None
    """Names the order: the last row's prefix digest."""
    num_rows: int | None = None
    num_rounds: int | None = None
    computed: dict[str, Any] | None = None
    """How the order was computed: the similarity quantum, the rows of the pool and of the test set, WSD's weights."""
    error: dict[str, Any] | None = None
    attempt: int = 0
    waits_for: list[str] = Field(default_factory=list)
    """Runs that must succeed first: the embeddings of its datasets, the comparisons of a large pool, shards of both."""
    created_at: datetime | None = None
    started_at: datetime | None = None
    """When its first attempt began."""
    finished_at: datetime | None = None
