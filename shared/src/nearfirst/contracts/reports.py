"""What is said of an arrangement before it is trained on: its report and its similarity curve.

Every list is bounded, whatever the size of the order: examples are the first so many, and stand beside the full count.
Positions count from 0, the row that is trained on first. Shares are between 0 and 1.
"""

from pydantic import Field

from nearfirst.contracts.arrangements import Arrangement, Fidelity, Similarity
from nearfirst.contracts.base import Contract

MAX_EXAMPLES = 100
"""Examples of one kind that a report lists."""
MAX_TASKS = 20
"""Tasks that are shown one by one."""
MAX_BINS = 100
"""Parts that the order is cut into for distances."""
MAX_TEST_ROWS = 2000
"""Up to so many test rows the report lists each of them; beyond, the `NUM_WORST` that are covered worst."""
NUM_WORST = 100
MAX_CURVE_POINTS = 256
"""Prefixes that a similarity curve measures; for longer orders they are further apart."""


class TextMatch(Contract):
    """A train row with the same text as a test row."""

    position: int
    train_id: str
    test_id: str
    """Of several, the first in the test dataset."""


class TextMatches(Contract):
    """Train rows whose text, normalised, also is a test row's."""

    num_rows: int
    share: float
    """Of the order's rows."""
    num_test_rows: int
    """Test rows whose text, normalised, is in the order."""
    examples: list[TextMatch] = Field(max_length=MAX_EXAMPLES)
    """The first by position."""


class Leaks(Contract):
    """Test texts that are trained on.

    Texts are compared after Unicode NFKC and case folding, with every run of white space as one space and none at the
    ends. Empty texts match nothing.
    """

    text: TextMatches
    """By embedded text: question and answer alike."""
    instruction: TextMatches
    """By the first user turn alone: the question is the same, the answer may differ."""


class NearDuplicate(Contract):
    """A train row that is almost a test row."""

    position: int
    train_id: str
    test_id: str
    """The test row that it is nearest to."""
    similarity: float
    """Cosine."""
    is_leak: bool
    """Whether its embedded text, normalised, also is a test row's."""


class NearDuplicates(Contract):
    """Train rows whose cosine similarity to their nearest test row is above a threshold."""

    threshold: float
    num_rows: int
    share: float
    """Of the order's rows."""
    examples: list[NearDuplicate] = Field(max_length=MAX_EXAMPLES)
    """The most similar, then the lower position."""


class CutTexts(Contract):
    """Rows whose text was longer than the encoder's limit, so that its end has no part in the embedding."""

    num_rows: int
    share: float


class Truncation(Contract):
    """Cut texts on both sides; None where nobody counted, as with given embeddings."""

    train: CutTexts | None
    """Of the order's rows."""
    test: CutTexts | None


class TaskMix(Contract):
    """Which tasks are trained on when."""

    bounds: list[int]
    """Tenth t is positions [bounds[t], bounds[t + 1]); fewer parts where the order has fewer rows than ten."""
    tasks: list[str] = Field(max_length=MAX_TASKS)
    """The tasks with the most rows in any one tenth; on a tie the one with more rows in all, then the one that comes
    first in the order."""
    counts: list[list[int]]
    """A row for each tenth: of each of `tasks`, then of all others together."""
    num_tasks: list[int]
    """Distinct tasks in each tenth."""
    largest: list[str]
    """The task with the most rows in each tenth; on a tie the one that comes first in the order."""
    largest_counts: list[int]
    """Its rows."""
    num_tasks_total: int


class DistanceByPosition(Contract):
    """Distance of train rows to their nearest test row, in parts of the order of about the same size."""

    similarity: Similarity
    """The distance: -cosine, or sqrt(2 - 2 cosine)."""
    bounds: list[int] = Field(max_length=MAX_BINS + 1)
    """Part b is positions [bounds[b], bounds[b + 1])."""
    mean: list[float]
    min: list[float]
    lower_quartile: list[float]
    upper_quartile: list[float]
    max: list[float]


class CoverageAtShare(Contract):
    """How near the first rows of the order come to each test row."""

    share: float
    """Of the order's rows."""
    num_rows: int
    covered: list[float]
    """For each of `Coverage.levels`: the share of test rows that have a row at least so similar among them."""
    percentiles: list[float]
    """Percentiles 0, 1, ..., 100 of the test rows' best cosine similarity to any of them."""


class RowCoverage(Contract):
    """Test rows one by one, as columns of a table."""

    is_complete: bool
    """False: only the `NUM_WORST` rows with the lowest best similarity are listed, worst first."""
    ids: list[str] = Field(max_length=MAX_TEST_ROWS)
    best_similarity: list[float]
    """Highest cosine similarity to any row of the order."""
    best_position: list[int]
    """Where that row stands; the first on a tie."""
    num_nearest: list[int]
    """Rows of the order that have it as their nearest test row."""
    first_related_position: list[int | None]
    """Where the first row stands that is at least `Coverage.related_similarity` similar; None: nowhere."""


class Coverage(Contract):
    """Whether each test row has something near it in the order, and how early."""

    levels: list[float]
    """Cosine similarities at which a test row counts as covered."""
    shares: list[CoverageAtShare]
    """For the first tenth, the first half and all of the order."""
    related_similarity: float
    num_never_nearest: int
    """Test rows that no row of the order has as its nearest."""
    rows: RowCoverage


class ArrangementReport(Contract):
    """What is in an order, and how it relates to its test set. None: what it takes was not there."""

    num_rows: int
    """Of the order."""
    num_test: int
    leaks: Leaks
    near_duplicates: NearDuplicates | None
    """None without embeddings."""
    truncation: Truncation
    task_mix: TaskMix | None
    """None without tasks."""
    distance: DistanceByPosition | None
    """None without embeddings."""
    coverage: Coverage | None
    """None without embeddings."""


class PairMeasures(Contract):
    """Four distances between a training prefix and test rows; a value for each of the curve's points."""

    avg: list[float]
    """Mean over all pairs of a train and a test row."""
    min: list[float]
    """Least over all pairs."""
    max: list[float]
    """Greatest over all pairs."""
    centroid: list[float]
    """Between the mean train row and the mean test row."""


class TaskCurve(Contract):
    """The curve against the rows of one test task."""

    task: str
    num_test: int
    cosine: PairMeasures


class SimilarityCurve(Contract):
    """How far training prefixes are from the test set: nine measures, each a distance, at some numbers of rows.

    All rows are unit vectors. Cosine distances are negated similarities, -1 to 1; that between centroids divides by
    their lengths, and is 0 where one has none. Euclidean distances of pairs are sqrt(2 - 2 cosine), 0 to 2; that
    between centroids is the length of their difference. KL(prefix || test) is between the distributions of
    bigrams of words (split at white space), in nats.
    """

    rows: list[int] = Field(max_length=MAX_CURVE_POINTS)
    """Rows in each prefix, ascending; the last is the whole order."""
    steps: list[int]
    """Optimizer steps that train on so many rows, rounded up."""
    rows_per_step: int
    every_steps: int
    """Steps from one point to the next: as asked for, or a multiple of it where that gave too many points."""
    num_test: int
    fidelity: Fidelity
    """Of the KL divergence, see `kl`."""
    cosine: PairMeasures | None
    """None without embeddings."""
    euclidean: PairMeasures | None
    """None without embeddings."""
    kl: list[float | None] | None
    """sum_b w_b p_b ln(p_b / (q_b + 1e-10)) over the bigrams of the prefix; p and q are their shares of the prefix's
    and the test set's bigrams. `corrected`: w_b = 1. `paper`: w_b = how often b is in the whole order and the test
    set together, as the paper's code sums over occurrences. None where no text of the prefix has two words, and
    altogether where no test text has.
    """
    by_task: list[TaskCurve] = Field(max_length=MAX_TASKS)
    """The test tasks with the most rows, then the one that comes first; empty without tasks or embeddings."""


class ReportedArrangement(Arrangement):
    """GET /arrangements/{id}: an arrangement with its report."""

    report: ArrangementReport | None = None
    """None before it has succeeded."""
