"""WSD against its formula on a plain float64 matrix."""

import numpy as np
import pytest

from nearfirst.contracts.problems import InvalidEmbeddings, InvalidInput

QUANTUM = 2.0**-40


def scores(distance, w_min=1.0, w_avg=None):
    minimum, mean = distance.min(axis=1), distance.mean(axis=1)
    if w_avg is None:
        w_avg = minimum.mean() / mean.mean()
    return w_min * minimum + w_avg * mean


def ranked(distance, **weights):
    """Ascending score, lower index first on a tie; scores that float64 can't tell apart are ties."""
    return np.lexsort((np.arange(len(distance)), np.round(scores(distance, **weights), 11))).tolist()


def test_scores_follow_the_formula_with_automatic_weight(sample, arrange):
    arranged = arrange(sample, method="wsd", order="nft")
    expected = scores(sample.distance)[arranged.index]
    np.testing.assert_allclose(arranged.score, expected, atol=1e-11)
    distance = sample.distance
    assert arranged.report["w_avg"] == pytest.approx(distance.min(axis=1).mean() / distance.mean())
    assert arranged.report["similarity_quantum"] == QUANTUM


def test_nft_ascends_with_ties_by_index_and_fft_is_its_exact_reverse(sample, arrange):
    nft = arrange(sample, method="wsd", order="nft")
    fft = arrange(sample, method="wsd", order="fft")
    assert nft.index.tolist() == ranked(sample.distance)
    assert fft.index.tolist() == nft.index.tolist()[::-1]
    assert fft.score.tolist() == nft.score.tolist()[::-1]


@pytest.mark.parametrize(("w_min", "w_avg"), [(1, 0), (0, 1), (0.5, 2)])
def test_weights_can_be_given(sample, arrange, w_min, w_avg):
    arranged = arrange(sample, method="wsd", order="nft", w_min=w_min, w_avg=w_avg)
    assert arranged.index.tolist() == ranked(sample.distance, w_min=w_min, w_avg=w_avg)


def test_identical_rows_have_identical_scores_and_follow_each_other_by_index(smooth, arrange):
    train = smooth.train.copy()
    train[[2, 90, 199]] = train[50]
    arranged = arrange(smooth._replace(train=train), method="wsd", order="nft", budget=4_000)
    places = [arranged.index.tolist().index(row) for row in (2, 50, 90, 199)]
    assert places == list(range(places[0], places[0] + 4))
    assert len(set(arranged.score[places].tolist())) == 1


def test_rt_is_a_shuffle_that_its_seed_decides(sample, arrange):
    one, same, other = (arrange(sample, method="wsd", order="rt", seed=seed) for seed in (1, 1, 2))
    assert one.index.tolist() == same.index.tolist() != other.index.tolist()
    assert sorted(one.index.tolist()) == list(range(len(sample.train)))
    np.testing.assert_allclose(one.score, scores(sample.distance)[one.index], atol=1e-11)


@pytest.mark.parametrize("order", ["nft", "fft", "rt"])
def test_a_limit_keeps_the_first_rows_of_the_order(sample, arrange, order):
    whole = arrange(sample, method="wsd", order=order)
    part = arrange(sample, method="wsd", order=order, limit=13)
    assert part.index.tolist() == whole.index[:13].tolist()
    assert part.score.tolist() == whole.score[:13].tolist()


def test_automatic_weight_needs_a_mean_distance(unit, sample, arrange):
    opposite = sample._replace(
        train=unit([[1, 0], [0, 1]]),
        test=unit([[1, 0], [-1, 0], [0, 1], [0, -1]]),
        train_tasks=None,
        test_tasks=None,
    )
    with pytest.raises(InvalidInput, match="w_avg: got auto"):
        arrange(opposite, method="wsd", order="nft")
    assert arrange(opposite, method="wsd", order="nft", w_avg=1.0).index.tolist() == [0, 1]


def test_coarse_scores_a_task_by_the_mean_of_its_rows(sample, arrange, unit):
    tasks = np.unique(sample.train_tasks)
    means = unit(np.stack([sample.train[sample.train_tasks == task].mean(axis=0, dtype=float) for task in tasks]))
    distance = -(means.astype(float) @ sample.test.T.astype(float))
    expected = dict(zip(tasks.tolist(), scores(distance), strict=True))
    arranged = arrange(sample, method="wsd", order="nft", granularity="coarse")
    found = [expected[task] for task in sample.train_tasks[arranged.index].tolist()]
    np.testing.assert_allclose(arranged.score, found, rtol=1e-4, atol=1e-6)
    assert arranged.report["num_tasks"] == len(tasks)
    assert arranged.report["w_avg"] == pytest.approx(distance.min(axis=1).mean() / distance.mean(), rel=1e-5)


@pytest.mark.parametrize("order", ["nft", "fft", "rt"])
def test_coarse_keeps_a_task_s_rows_together_and_in_dataset_order(sample, arrange, order):
    arranged = arrange(sample, method="wsd", order=order, granularity="coarse")
    tasks = sample.train_tasks[arranged.index]
    assert np.count_nonzero(np.diff(tasks)) == len(np.unique(tasks)) - 1
    for task in np.unique(tasks):
        rows = arranged.index[tasks == task].tolist()
        assert rows == sorted(rows)


def test_coarse_has_tasks_with_the_same_rows_in_order_of_appearance(smooth, arrange):
    twice = smooth._replace(
        train=np.concatenate([smooth.train[:60], smooth.train[:60][::-1]]),
        train_tasks=np.concatenate([np.full(60, 5), np.full(60, 2)]),
    )
    for order in ("nft", "fft"):
        arranged = arrange(twice, method="wsd", order=order, granularity="coarse")
        assert len(set(arranged.score.tolist())) == 1
        assert arranged.index.tolist() == (list(range(120)) if order == "nft" else [*range(60, 120), *range(60)])


def test_coarse_refuses_a_task_whose_rows_cancel_out(unit, sample, arrange):
    opposite = sample._replace(
        train=unit([[1, 0], [0, 1], [0, -1]]), test=unit([[1, 0]]), train_tasks=np.array([4, 1, 1]), test_tasks=None
    )
    with pytest.raises(InvalidEmbeddings, match=r"the mean of task 1 .* has length 0"):
        arrange(opposite, method="wsd", order="nft", granularity="coarse")


def test_euclidean_scores_follow_the_formula(sample, arrange):
    distance = np.sqrt(np.maximum(2 + 2 * sample.distance, 0))
    arranged = arrange(sample, method="wsd", order="nft", similarity="euclidean")
    np.testing.assert_allclose(arranged.score, scores(distance)[arranged.index], atol=1e-9)
    assert arranged.report["w_avg"] == pytest.approx(distance.min(axis=1).mean() / distance.mean())
    assert arranged.report["similarity"] == "euclidean"
