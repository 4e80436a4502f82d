"""Every arrangement written out literally, on whole float64 matrices: what the methods are compared with.

Nothing here is shared with the code under test but the rules. Where the rules leave a choice (ties, shuffles, draws)
the choice is the one that docs/paper.md states.

Shapes: N train rows, M test rows, D dimensions.
"""

import gzip
import json
import math
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nearfirst.contracts.arrangements import ArrangementRules

SHARED_DATA = Path(__file__).parents[3] / "shared" / "data"
QUANTUM = 2.0**-40


class Sample(NamedTuple):
    """Rows to arrange, of unit length, and what they are arranged for."""

    train: npt.NDArray[np.float32]
    test: npt.NDArray[np.float32]
    train_tasks: npt.NDArray[np.int64] | None = None
    test_tasks: npt.NDArray[np.int64] | None = None

    @property
    def distance(self) -> npt.NDArray[np.float64]:
        """(N, M) -cosine."""
        return distance_matrix(self.train, self.test)

    def rows(self, train: npt.ArrayLike, test: npt.ArrayLike | None = None) -> "Sample":
        """A sample of some of its rows."""
        tests = np.arange(len(self.test)) if test is None else test
        return Sample(
            self.train[train],
            self.test[tests],
            None if self.train_tasks is None else self.train_tasks[train],
            None if self.test_tasks is None else self.test_tasks[tests],
        )


def unit_rows(rows: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Rows of unit length, in float32."""
    single = np.asarray(rows, dtype=np.float32)
    return single / np.linalg.norm(single, axis=1, keepdims=True)


def load_p3(num_test: int = 1000) -> Sample | None:
    """Real P3: rows whose split isn't `test`, the first test rows, and their tasks; None where it isn't."""
    data, vectors = SHARED_DATA / "p3.jsonl.gz", SHARED_DATA / "p3_minilm_fp16.npy"
    if not (data.is_file() and vectors.is_file()):
        return None
    with gzip.open(data, "rt", encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    is_test = np.array([line["split"] == "test" for line in lines])
    number: dict[str, int] = {}
    tasks = np.array([number.setdefault(line["task"], len(number)) for line in lines])
    rows = unit_rows(np.load(vectors))
    return Sample(rows[~is_test], rows[is_test][:num_test], tasks[~is_test], tasks[is_test][:num_test])


def rounded(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """To the nearest multiple of the quantum."""
    return np.rint(values / QUANTUM) * QUANTUM


def products(train: npt.NDArray[np.float32], test: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Cosines in float64; identical rows share one computed row."""
    train_rows, train_of = np.unique(train, axis=0, return_inverse=True)
    test_rows, test_of = np.unique(test, axis=0, return_inverse=True)
    product = train_rows.astype(np.float64) @ test_rows.astype(np.float64).T
    return product[train_of][:, test_of]


def distance_matrix(train: npt.NDArray[np.float32], test: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """-cosine in float64, rounded to the quantum."""
    return -rounded(products(train, test))


def fixed_point_products(train: npt.NDArray[np.float32], test: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Cosines as ADR 0002 defines them, bit for bit: every addition inside the three products is exact."""
    parts = []
    for rows in (train.astype(np.float64), test.astype(np.float64)):
        hi = np.rint(rows * 2.0**26) / 2.0**26
        parts.append((hi, np.rint((rows - hi) * 2.0**45) / 2.0**45))
    (train_hi, train_lo), (test_hi, test_lo) = parts
    return train_hi @ test_hi.T + (train_hi @ test_lo.T + train_lo @ test_hi.T)


def literal_rounds(distance: npt.NDArray[np.float64], limit: int | None = None) -> list[list[int]]:
    """argmin over the remaining rows of every test column, the union, rows marked; until `limit` rows or all."""
    work = distance.copy()
    marked = work.max() + 1
    rounds: list[list[int]] = []
    count = 0
    while count < (limit or len(work)):
        chosen = np.unique(work.argmin(axis=0))
        work[chosen] = marked
        rounds.append(chosen.tolist())
        count += len(chosen)
    return rounds


def shuffled(rows: list[int], seed: int | np.random.SeedSequence) -> list[int]:
    """Rows sorted by the 64-bit numbers that PCG64 gives them, one after the other."""
    draw = np.random.PCG64(seed)
    numbers = [int(draw.random_raw()) for _ in rows]
    return [rows[place] for place in sorted(range(len(rows)), key=numbers.__getitem__)]


def tasks_in_order(tasks: npt.NDArray[np.int64]) -> dict[int, list[int]]:
    """Rows of each task; tasks by first appearance."""
    rows: dict[int, list[int]] = {}
    for row, task in enumerate(tasks.tolist()):
        rows.setdefault(task, []).append(row)
    return rows


class Literal:
    """The literal version of `arrange` on one sample: `order(rules)` is the list of train rows in order."""

    def __init__(self, sample: Sample, task_order: list[int] | None = None) -> None:
        self.sample = sample
        self._task_order = task_order
        self._known: dict[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]] = {}

    def order(self, rules: ArrangementRules) -> list[int]:
        """Train rows in the order that the rules ask for."""
        if rules.test_per_task is not None:
            kept = [
                row for rows in tasks_in_order(self.sample.test_tasks).values() for row in rows[: rules.test_per_task]
            ]
            part = Literal(self.sample.rows(np.arange(len(self.sample.train)), sorted(kept)))
            return part.order(rules.model_copy(update={"test_per_task": None}))
        if rules.select is not None:
            kept = sorted(self._selected(rules))
            part = Literal(self.sample.rows(kept), list(self._rows_of))
            return [kept[row] for row in part.order(rules.model_copy(update={"select": None}))]
        return getattr(self, f"_{rules.method.value}")(rules)

    @cached_property
    def cosine(self) -> npt.NDArray[np.float64]:
        """(N, M) negated cosines."""
        return distance_matrix(self.sample.train, self.sample.test)

    @cached_property
    def euclidean(self) -> npt.NDArray[np.float64]:
        """(N, M) euclidean distances of unit rows."""
        return rounded(np.sqrt(np.maximum(2 + 2 * self.cosine, 0)))

    @cached_property
    def nearest_rounds(self) -> list[list[int]]:
        """TMA's rounds, each ascending."""
        return literal_rounds(self.cosine)

    @cached_property
    def farthest_rounds(self) -> list[list[int]]:
        """The same by farthest rows."""
        return literal_rounds(-self.cosine)

    @cached_property
    def _rows_of(self) -> dict[int, list[int]]:
        """Rows of each task; a selection keeps the order of the tasks it was made from."""
        found = tasks_in_order(self.sample.train_tasks)
        return found if self._task_order is None else {task: found[task] for task in self._task_order}

    def scores(self, rules: ArrangementRules, rows: list[int]) -> list[float]:
        """WSD of these rows, auto weighing over them alone."""
        minimum, mean = self._minimum_and_mean(rules.similarity.value)
        return wsd(minimum[rows], mean[rows], rules)

    def _minimum_and_mean(self, similarity: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Of each train row's distances; the mean is of the cosines before they are rounded."""
        if similarity not in self._known:
            distance = getattr(self, similarity)
            averaged = -products(self.sample.train, self.sample.test) if similarity == "cosine" else distance
            mean = np.array([math.fsum(row.tolist()) / len(row) for row in averaged])
            self._known[similarity] = distance.min(axis=1), mean
        return self._known[similarity]

    def _selected(self, rules: ArrangementRules) -> list[int]:
        count, how = rules.select.per_task, rules.select.how.value
        kept: list[int] = []
        for number, rows in enumerate(self._rows_of.values()):
            if len(rows) <= count:
                kept += rows
            elif how == "first":
                kept += rows[:count]
            elif how == "random":
                kept += shuffled(rows, np.random.SeedSequence(rules.seed, spawn_key=(number,)))[:count]
            else:
                kept += self._by_rank(rules, [rows[place] for place in ascending(self.scores(rules, rows))])
        return kept

    @staticmethod
    def _by_rank(rules: ArrangementRules, nearest_first: list[int]) -> list[int]:
        count = rules.select.per_task
        if rules.select.how.value == "polar":
            return nearest_first[: math.ceil(count / 2)] + nearest_first[len(nearest_first) - count // 2 :]
        if rules.fidelity.value == "paper":
            return nearest_first[:: len(nearest_first) // count]
        return [nearest_first[math.floor(k * len(nearest_first) / count)] for k in range(count)]

    def _as_is(self, rules: ArrangementRules) -> list[int]:
        return list(range(len(self.sample.train)))[: rules.limit]

    def _random(self, rules: ArrangementRules) -> list[int]:
        return shuffled(list(range(len(self.sample.train))), rules.seed)[: rules.limit]

    def _cluster(self, rules: ArrangementRules) -> list[int]:
        return [row for rows in self._rows_of.values() for row in rows][: rules.limit]

    def _round_robin(self, rules: ArrangementRules) -> list[int]:
        queues = [list(rows) for rows in self._rows_of.values()]
        order: list[int] = []
        while any(queues):
            order += [queue.pop(0) for queue in queues if queue]
        return order[: rules.limit]

    def _wsd(self, rules: ArrangementRules) -> list[int]:
        if rules.granularity.value == "coarse":
            return self._coarse(rules)
        return turned(self.scores(rules, list(range(len(self.sample.train)))), rules)[: rules.limit]

    def _coarse(self, rules: ArrangementRules) -> list[int]:
        tasks = list(self._rows_of.values())
        means = np.array(
            [[math.fsum(column) / len(rows) for column in self.sample.train[rows].T.tolist()] for rows in tasks]
        )
        unit = (means / np.sqrt((means**2).sum(axis=1, keepdims=True))).astype(np.float32)
        of_tasks = Literal(Sample(unit, self.sample.test))
        order = turned(of_tasks.scores(rules, list(range(len(tasks)))), rules)
        return [row for place in order for row in tasks[place]][: rules.limit]

    def transport_cost(self, rules: ArrangementRules) -> npt.NDArray[np.float64]:
        """(N, M), never below 0.

        With `paper`, copies of a row leave the solver a choice among optimal plans, which a cost that is off by one
        quantum turns: then the costs are the very ones that ADR 0002 defines.
        """
        if rules.fidelity.value == "corrected":
            return np.maximum(1 + self.cosine, 0) if rules.similarity.value == "cosine" else self.euclidean
        cosine = rounded(fixed_point_products(self.sample.train, self.sample.test))
        assert np.abs(cosine + self.cosine).max() <= QUANTUM
        return rounded(np.sqrt(np.maximum(2 - 2 * cosine, 0)))

    def _ot(self, rules: ArrangementRules) -> list[int]:
        return turned(self.transport_scores(rules), rules)[: rules.limit]

    def transport_scores(self, rules: ArrangementRules) -> list[float]:
        """Row sums of plan * cost, times N; corrected: on each different row once."""
        import ot

        cost = self.transport_cost(rules)
        if rules.fidelity.value == "paper":
            plan = ot.emd(ot.unif(cost.shape[0]), ot.unif(cost.shape[1]), cost, numItermax=10**8)
            return rounded(np.sum(plan * cost, axis=1) * len(cost)).tolist()
        train_groups, test_groups = copies(self.sample.train), copies(self.sample.test)
        first = np.ix_([rows[0] for rows in train_groups], [rows[0] for rows in test_groups])
        mass = np.array([float(len(rows) * cost.shape[1]) for rows in train_groups])
        test_mass = np.array([float(len(rows) * cost.shape[0]) for rows in test_groups])
        plan = ot.emd(mass, test_mass, np.ascontiguousarray(cost[first]), numItermax=10**8)
        score = np.empty(len(cost))
        for rows, value in zip(train_groups, rounded(np.sum(plan * cost[first], axis=1) / mass), strict=True):
            score[rows] = value
        return score.tolist()

    def _tma(self, rules: ArrangementRules) -> list[int]:
        if rules.order.value in ("min", "max"):
            return self._half(rules, rules.order.value == "max", rules.limit)
        if rules.limit is not None and rules.rounds is None:
            return self._halves(rules)
        start, stop = rules.rounds or (0, len(self.nearest_rounds))
        kept = self._inside(rules, self.nearest_rounds[start:stop])
        order = _flat(kept) if rules.limit is None else _cut(kept, rules)
        if rules.order.value == "rt":
            return shuffled(order, rules.seed)
        return order[::-1] if rules.order.value == "fft" else order

    def _inside(self, rules: ArrangementRules, rounds: list[list[int]]) -> list[list[int]]:
        """Rounds with their rows as the fidelity has them."""
        if rules.fidelity.value == "paper":
            return rounds
        nearest = np.maximum(self._nearest, -1)
        return [sorted(rows, key=lambda row: (nearest[row], row)) for rows in rounds]

    @cached_property
    def _nearest(self) -> npt.NDArray[np.float64]:
        return self.cosine.min(axis=1)

    def _half(self, rules: ArrangementRules, is_farthest: bool, limit: int) -> list[int]:
        rounds = self.farthest_rounds if is_farthest else self.nearest_rounds
        return _cut(self._inside(rules, rounds), rules.model_copy(update={"limit": limit}))

    def _halves(self, rules: ArrangementRules) -> list[int]:
        """Half from one end, then half from the other, reversed."""
        near, far = rules.limit - rules.limit // 2, rules.limit // 2
        is_fft = rules.order.value == "fft"
        first = self._half(rules, is_fft, far if is_fft else near)
        num_second = near if is_fft else far
        if rules.fidelity.value == "paper":
            second = self._half(rules, not is_fft, num_second)[::-1]
            order = list(dict.fromkeys(first + second))
        else:
            other = self.nearest_rounds if is_fft else self.farthest_rounds
            has = set(first)
            rest = [row for row in _flat(self._inside(rules, other)) if row not in has]
            order = first + rest[:num_second][::-1]
        return shuffled(order, rules.seed) if rules.order.value == "rt" else order


def wsd(minimum: npt.NDArray[np.float64], mean: npt.NDArray[np.float64], rules: ArrangementRules) -> list[float]:
    """`w_min * min + w_avg * mean`, rounded to the quantum."""
    w_avg = math.fsum(minimum) / math.fsum(mean) if rules.w_avg == "auto" else rules.w_avg
    return rounded(rules.w_min * minimum + w_avg * mean).tolist()


def ascending(scores: list[float]) -> list[int]:
    """Places by score, the lower place first on a tie."""
    return np.argsort(scores, kind="stable").tolist()


def turned(scores: list[float], rules: ArrangementRules) -> list[int]:
    """nft, fft or rt of scored things."""
    if rules.order.value == "rt":
        return shuffled(list(range(len(scores))), rules.seed)
    return ascending(scores)[:: -1 if rules.order.value == "fft" else 1]


def copies(rows: npt.NDArray[np.float32]) -> list[list[int]]:
    """Groups of rows with the same bytes, by first appearance."""
    groups: dict[bytes, list[int]] = {}
    for place, row in enumerate(rows):
        groups.setdefault(row.tobytes(), []).append(place)
    return list(groups.values())


def _flat(rounds: list[list[int]]) -> list[int]:
    return [row for rows in rounds for row in rows]


def _cut(rounds: list[list[int]], rules: ArrangementRules) -> list[int]:
    """The first `limit` rows; paper: to the end of the round that meets it."""
    if rules.fidelity.value == "corrected":
        return _flat(rounds)[: rules.limit]
    order: list[int] = []
    for rows in rounds:
        if len(order) >= rules.limit:
            break
        order += rows
    return order
