"""The report against counts made with plain loops, and hand-worked examples."""

import unicodedata
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from nearfirst.contracts.arrangements import Similarity
from nearfirst.contracts.problems import InvalidEmbeddings, InvalidInput
from nearfirst.contracts.progress import Stopped
from nearfirst.contracts.reports import ArrangementReport, SimilarityCurve
from nearfirst.similarity.embeddings import normalise
from nearfirst_arrangement.measures.inputs import MeasuredOrder, MeasuredRows
from nearfirst_arrangement.measures.measure import measure_order
from nearfirst_arrangement.measures.overlap import normalised_text


def report_of(order, **parameters):
    return measure_order(order, **parameters).report


def rows(texts, instructions=None, **fields):
    ids = [f"r{i}" for i in range(len(texts))]
    return MeasuredRows(ids, texts, texts if instructions is None else instructions, **fields)


def similarity_matrix(order):
    train = normalise(order.vectors.train)[order.vectors.index].astype(np.float64)
    return np.round(train @ normalise(order.vectors.test).astype(np.float64).T, 11)


def test_leaks_are_found_whatever_their_case_width_composition_and_spaces():
    train = rows(["new", "WHAT  is\nthis? ", "ｗｈａｔ is this?", "Cafe\u0301", "STRASSE", "what is this"])
    test = rows(["what is this?", "CAFÉ", "Straße", "What Is This?"])
    found = report_of(MeasuredOrder(train, test)).leaks.text
    assert [(match.position, match.train_id, match.test_id) for match in found.examples] == [
        (1, "r1", "r0"),
        (2, "r2", "r0"),
        (3, "r3", "r1"),
        (4, "r4", "r2"),
    ]
    assert (found.num_rows, found.num_test_rows, found.share) == (4, 4, pytest.approx(4 / 6))


def test_instructions_are_compared_on_their_own():
    train = rows(["q yes", "q no", "other"], ["q", "q", "other"])
    leaks = report_of(MeasuredOrder(train, rows(["q no"], ["q"]))).leaks
    assert [match.position for match in leaks.text.examples] == [1]
    assert [match.position for match in leaks.instruction.examples] == [0, 1]


def test_empty_texts_match_nothing():
    leaks = report_of(MeasuredOrder(rows(["", " "]), rows(["\n", "x"]))).leaks
    assert leaks.text.num_rows == leaks.instruction.num_rows == leaks.text.num_test_rows == 0


def test_leaks_equal_a_plain_count_on_random_texts(order):
    def literal(text):
        return " ".join(unicodedata.normalize("NFKC", text).casefold().split())

    leaks = report_of(order).leaks
    for found, field in ((leaks.text, "texts"), (leaks.instruction, "instructions")):
        train, test = ([literal(text) for text in getattr(side, field)] for side in (order.train, order.test))
        assert found.num_rows == sum(text in set(test) for text in train) > 0
        assert found.num_test_rows == sum(text in set(train) for text in test)
        assert found.share == pytest.approx(found.num_rows / len(train))
        for match in found.examples:
            assert order.train.ids[match.position] == match.train_id
            assert order.test.ids[test.index(train[match.position])] == match.test_id


def test_normalisation_is_idempotent_for_every_character():
    for code in range(0x110000):
        once = normalised_text(f"a{chr(code)}b")
        assert normalised_text(once) == once


def test_examples_are_bounded_and_counts_are_not():
    found = report_of(MeasuredOrder(rows(["x"] * 250), rows(["x"]))).leaks.text
    assert found.num_rows == 250
    assert [match.position for match in found.examples] == list(range(100))


def test_near_duplicates_come_by_similarity_then_position_with_leaks_told_apart(make_vectors):
    angles = np.radians([0, 12, 0, 5, 90, 11.3])
    train = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    order = MeasuredOrder(
        rows(["same", "b", "c", "d", "e", "f"]),
        rows(["same", "other"]),
        make_vectors(train, np.array([4, 3, 2, 1, 0, 5]), np.array([[1.0, 0], [-1, 0]])),
    )
    found = report_of(
        replace(order, train=replace(order.train, texts=["e", "d", "c", "b", "same", "f"]))
    ).near_duplicates
    assert found.threshold == 0.98
    assert [example.position for example in found.examples] == [2, 4, 1, 5]
    assert [example.is_leak for example in found.examples] == [False, True, False, False]
    assert {example.test_id for example in found.examples} == {"r0"}
    assert (found.num_rows, found.share) == (4, pytest.approx(4 / 6))
    assert found.examples[2].similarity == pytest.approx(np.cos(np.radians(5)), abs=1e-7)


def test_truncation_counts_each_side_and_says_when_nobody_did(order):
    found = report_of(order).truncation
    assert found.train.num_rows == int(order.train.truncated.sum())
    assert found.test.share == pytest.approx(order.test.truncated.mean())
    unknown = report_of(replace(order, train=replace(order.train, truncated=None))).truncation
    assert unknown.train is None
    assert unknown.test == found.test


def test_task_mix_counts_every_row_once(order):
    mix = report_of(order).task_mix
    tasks, num_rows = order.train.tasks, len(order.train)
    assert mix.bounds == [num_rows * tenth // 10 for tenth in range(11)]
    assert mix.num_tasks_total == len(set(tasks)) > 20 == len(mix.tasks)
    for tenth, counts in enumerate(mix.counts):
        part = Counter(tasks[mix.bounds[tenth] : mix.bounds[tenth + 1]])
        assert counts[:-1] == [part[task] for task in mix.tasks]
        assert sum(counts) == part.total()
        assert mix.num_tasks[tenth] == len(part)
        assert mix.largest_counts[tenth] == part.most_common(1)[0][1] == part[mix.largest[tenth]]


def test_tasks_that_are_crowded_together_are_shown_before_frequent_ones_spread_out():
    spread = ["spread", *[f"x{i}" for i in range(4)]]
    tasks = [task for tenth in range(10) for task in (spread if tenth < 8 else ["late"] * 4 + ["spread"])]
    mix = report_of(MeasuredOrder(rows(["t"] * 50, tasks=tasks), rows(["u"]))).task_mix
    assert mix.tasks == ["late", "spread", "x0", "x1", "x2", "x3"]


def test_rows_without_tasks_have_no_task_mix():
    for tasks in (None, ["", ""]):
        assert report_of(MeasuredOrder(rows(["a", "b"], tasks=tasks), rows(["c"]))).task_mix is None


@pytest.mark.parametrize("similarity", list(Similarity))
def test_distances_are_those_of_the_rows_of_each_part(order, similarity):
    found = report_of(replace(order, similarity=similarity)).distance
    nearest = order.vectors.nearest_similarity
    distance = -nearest if similarity is Similarity.COSINE else np.sqrt(2 - 2 * nearest)
    assert found.similarity is similarity
    assert len(found.bounds) == 101
    for part, (start, stop) in enumerate(zip(found.bounds, found.bounds[1:], strict=False)):
        values = np.sort(distance[start:stop])
        assert found.mean[part] == pytest.approx(values.mean(), abs=1e-9)
        assert (found.min[part], found.max[part]) == pytest.approx((values[0], values[-1]), abs=1e-9)
        quartiles = np.percentile(values, [25, 75])
        assert (found.lower_quartile[part], found.upper_quartile[part]) == pytest.approx(tuple(quartiles), abs=1e-9)


def test_an_order_of_three_rows_has_three_parts(order, make_vectors):
    short = MeasuredOrder(
        rows(["a"] * 3, tasks=["x", "y", "x"]), order.test, make_vectors(np.eye(3), np.arange(3), np.ones((23, 3)))
    )
    found = report_of(short)
    assert found.distance.bounds == found.task_mix.bounds == [0, 1, 2, 3]
    assert [share.num_rows for share in found.coverage.shares] == [1, 2, 3]


def test_coverage_of_each_test_row_equals_a_search_through_the_matrix(order):
    found = report_of(order).coverage
    similarity = similarity_matrix(order)
    num_nearest = Counter(order.vectors.nearest_test.tolist())
    assert found.rows.is_complete
    assert found.rows.ids == list(order.test.ids)
    for row, column in enumerate(similarity.T):
        assert found.rows.best_similarity[row] == pytest.approx(min(1.0, column.max()), abs=1e-9)
        assert found.rows.best_position[row] == column.argmax()
        related = np.flatnonzero(column >= found.related_similarity)
        assert found.rows.first_related_position[row] == (related[0] if len(related) else None)
        assert found.rows.num_nearest[row] == num_nearest[row]
    assert found.num_never_nearest == len(order.test) - len(num_nearest)


def test_coverage_at_shares_of_the_order_equals_the_matrix(order):
    found = report_of(order).coverage
    similarity = np.minimum(similarity_matrix(order), 1)
    assert [share.share for share in found.shares] == [0.1, 0.5, 1]
    for share in found.shares:
        assert share.num_rows == int(np.ceil(len(order.train) * share.share - 1e-9))
        best = similarity[: share.num_rows].max(axis=0)
        assert share.covered == pytest.approx([np.mean(best >= level) for level in found.levels], abs=1e-9)
        np.testing.assert_allclose(share.percentiles, np.percentile(best, range(101)), atol=1e-9)


def test_of_many_test_rows_the_worst_covered_are_listed(make_order):
    order = make_order(2, num_train=60, num_test=2001)
    found = report_of(order).coverage.rows
    best = similarity_matrix(order).max(axis=0)
    assert not found.is_complete
    assert found.ids == [order.test.ids[row] for row in np.argsort(best, kind="stable")[:100]]


def test_without_embeddings_only_their_parts_are_missing(order):
    report, curve = measure_order(replace(order, vectors=None))
    whole = measure_order(order)
    assert report.near_duplicates is report.distance is report.coverage is None
    assert (report.leaks, report.task_mix) == (whole.report.leaks, whole.report.task_mix)
    assert curve.cosine is curve.euclidean is None
    assert curve.by_task == []
    assert curve.kl == whole.curve.kl


def test_both_survive_json(order):
    report, curve = measure_order(order)
    assert ArrangementReport.model_validate_json(report.model_dump_json()) == report
    assert SimilarityCurve.model_validate_json(curve.model_dump_json()) == curve


def test_real_reports_are_small_and_see_that_the_nearest_rows_come_first(measured_p3):
    report, curve = measured_p3
    assert len(report.model_dump_json()) < 250_000
    assert len(curve.model_dump_json()) < 500_000
    assert report.distance.mean == sorted(report.distance.mean)
    positions = [example.position for example in report.near_duplicates.examples]
    assert sorted(positions) == list(range(report.near_duplicates.num_rows))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"texts": ["a"]}, r"train.texts: got 1, wanted 2, one a row"),
        ({"truncated": np.zeros(3, dtype=bool)}, r"train.truncated: got 3, wanted 2, one a row"),
        ({"ids": [], "texts": []}, r"train: got no rows, wanted at least one to measure"),
    ],
)
def test_rows_that_do_not_fit_are_refused_by_name(change, message):
    with pytest.raises(InvalidInput, match=message):
        measure_order(MeasuredOrder(replace(rows(["a", "b"]), **change), rows(["c"])))


def test_vectors_of_other_rows_are_refused_by_name(order):
    shorter = replace(order.vectors, index=order.vectors.index[:-1])
    with pytest.raises(InvalidEmbeddings, match=r"index: got 399 rows, wanted 400"):
        measure_order(replace(order, vectors=shorter))


@pytest.mark.parametrize(("field", "last"), [("index", 699), ("nearest_test", 22)])
def test_indices_of_no_row_are_refused_by_name(order, field, last):
    rows = getattr(order.vectors, field).copy()
    rows[3] = last + 1
    with pytest.raises(InvalidEmbeddings, match=rf"{field}: got rows \d+ to {last + 1}, wanted 0 to {last}"):
        measure_order(replace(order, vectors=replace(order.vectors, **{field: rows})))


def test_progress_reaches_the_total_of_each_phase_and_can_stop_the_work(order):
    seen = {}
    measure_order(order, progress=lambda done, total, unit: seen.__setitem__(unit, (done, total)))
    num_rows = len(order.train)
    assert seen == {
        "texts compared": (2 * num_rows, 2 * num_rows),
        "texts read": (num_rows + 23, num_rows + 23),
        "rows measured": (num_rows, num_rows),
    }

    def stop(done, total, unit):
        if unit == "rows measured":
            raise Stopped

    with pytest.raises(Stopped):
        measure_order(order, progress=stop)
