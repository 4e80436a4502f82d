"""The one way in: an order to its report and its similarity curve.

Shapes: n rows of the order, M test rows, D dimensions, P prefixes, E stretches of the order.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nearfirst.contracts.arrangements import Fidelity
from nearfirst.contracts.progress import ProgressCallback, ignore_progress
from nearfirst.contracts.reports import ArrangementReport, Coverage, SimilarityCurve
from nearfirst.similarity.blocks import DEFAULT_MEMORY_BUDGET_BYTES
from nearfirst_arrangement.measures.bigrams import bigram_kl
from nearfirst_arrangement.measures.composition import distance_by_position, task_mix, truncation
from nearfirst_arrangement.measures.coverage import RELATED_SIMILARITY, coverage, coverage_ends
from nearfirst_arrangement.measures.curve import CurvePoints, PairCurves, curve_points, group_by_task, pair_curves
from nearfirst_arrangement.measures.inputs import MeasuredOrder, UnitVectors, unit_vectors
from nearfirst_arrangement.measures.overlap import find_leaks, find_near_duplicates
from nearfirst_arrangement.measures.pairs import PairQuestion, Stretches, pair_statistics
from nearfirst_arrangement.measures.rounding import rounded


class Measures(NamedTuple):
    """What is known of an order."""

    report: ArrangementReport
    curve: SimilarityCurve


def measure_order(
    order: MeasuredOrder,
    *,
    rows_per_step: int = 16,
    every_steps: int = 10,
    fidelity: Fidelity = Fidelity.CORRECTED,
    memory_budget_bytes: int = DEFAULT_MEMORY_BUDGET_BYTES,
    progress: ProgressCallback = ignore_progress,
) -> Measures:
    """Measure an order against its test set.

    Args:
        order: n rows and M test rows, with or without embeddings and tasks.
        rows_per_step: training rows of one optimizer step, at least 1.
        every_steps: steps between two points of the curve, at least 1; `curve_points` may take a multiple.
        fidelity: of the curve's KL divergence.
        memory_budget_bytes: what blocks of similarities may take.
        progress: called with absolute counts of the phase that runs; it may raise to stop.

    Returns:
        A pure function of the order: numbers are rounded to `rounding.DECIMALS`, and exact similarities decide which
        row is the best and the first. Parts without what they need are None or empty.

    Raises:
        InvalidInput: no rows, fields of different lengths, a parameter below 1.
        InvalidEmbeddings: other row counts or widths than wanted, rows without a direction.

    Notes:
        Time: one reading of the texts, and one pass over all pairs (`pair_statistics`). Memory beside the inputs:
        normalised copies of embeddings that are not float32 unit rows already, the budget, the counts of `bigram_kl`.
    """
    order.train.check("train")
    order.test.check("test")
    vectors = unit_vectors(order)
    points = curve_points(len(order.train), rows_per_step=rows_per_step, every_steps=every_steps)
    leaks, is_leak_n = find_leaks(order.train, order.test, progress)
    kl = bigram_kl(order.train.texts, points.rows, order.test.texts, fidelity, progress)
    pairs = None if vectors is None else _measure_pairs(order, vectors, points, memory_budget_bytes, progress)
    tasks = order.train.known_tasks
    report = ArrangementReport(
        num_rows=len(order.train),
        num_test=len(order.test),
        leaks=leaks,
        near_duplicates=None if vectors is None else find_near_duplicates(order.train, order.test, vectors, is_leak_n),
        truncation=truncation(order.train, order.test),
        task_mix=None if tasks is None else task_mix(tasks),
        distance=None if vectors is None else distance_by_position(vectors.nearest_similarity, order.similarity),
        coverage=None if pairs is None else pairs.coverage,
    )
    curve = SimilarityCurve(
        rows=points.rows.tolist(),
        steps=points.steps,
        rows_per_step=points.rows_per_step,
        every_steps=points.every_steps,
        num_test=len(order.test),
        fidelity=fidelity,
        cosine=None if pairs is None else pairs.curves.cosine,
        euclidean=None if pairs is None else pairs.curves.euclidean,
        kl=None if kl is None else [None if value is None else rounded(value) for value in kl],
        by_task=[] if pairs is None else pairs.curves.by_task,
    )
    return Measures(report, curve)


class _PairMeasures(NamedTuple):
    """What comes from the pass over all pairs."""

    curves: PairCurves
    coverage: Coverage


def _measure_pairs(
    order: MeasuredOrder,
    vectors: UnitVectors,
    points: CurvePoints,
    memory_budget_bytes: int,
    progress: ProgressCallback,
) -> _PairMeasures:
    groups = group_by_task(order.test.known_tasks, len(order.test))
    kept_ends = coverage_ends(len(vectors))
    question = PairQuestion(
        ends=np.union1d(points.rows, kept_ends),
        kept_ends=kept_ends,
        test_group=groups.of_row,
        num_groups=groups.num_groups,
        related_similarity=RELATED_SIMILARITY,
    )
    found = pair_statistics(vectors, question, memory_budget_bytes=memory_budget_bytes, progress=progress)
    between_points = _merge(found.stretches, np.searchsorted(question.ends, points.rows))
    return _PairMeasures(
        pair_curves(vectors, points.rows, groups, between_points), coverage(order.test, vectors, found.best)
    )


def _merge(stretches: Stretches, last_P: npt.NDArray[np.int64]) -> Stretches:
    """Stretches joined so that stretch p ends with the old stretch `last_P[p]`."""
    first_P = np.append(0, last_P[:-1] + 1)
    return Stretches(
        np.minimum.reduceat(stretches.lowest, first_P, axis=0),
        np.maximum.reduceat(stretches.highest, first_P, axis=0),
        np.add.reduceat(stretches.euclidean_sum, first_P),
    )
