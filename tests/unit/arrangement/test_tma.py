"""TMA's orders against the paper's literal loop and the text of the design, on rows full of ties."""

import numpy as np
import pytest

from nearfirst.contracts.problems import InvalidInput


def flat(rounds):
    return [row for each in rounds for row in each]


def corrected(rounds, distance):
    """Inside a round: descending nearest similarity, then index."""
    nearest = np.maximum(distance.min(axis=1), -1)
    return [sorted(each, key=lambda row: (nearest[row], row)) for each in rounds]


@pytest.mark.parametrize("budget", [1, 5_000, 2**30])
def test_paper_nft_is_the_literal_loop_and_fft_its_reverse(sample, literal, arrange, budget):
    expected = literal(sample.distance)
    nft = arrange(sample, method="tma", order="nft", fidelity="paper", budget=budget)
    fft = arrange(sample, method="tma", order="fft", fidelity="paper", budget=budget)
    assert nft.index.tolist() == flat(expected)
    assert nft.round.tolist() == [number for number, each in enumerate(expected) for _ in each]
    assert nft.num_rounds == len(expected)
    assert fft.index.tolist() == flat(expected)[::-1]
    assert fft.round.tolist() == nft.round.tolist()[::-1]


def test_corrected_has_the_nearest_row_of_a_round_first(sample, literal, arrange):
    distance = sample.distance
    arranged = arrange(sample, method="tma", order="nft")
    assert arranged.index.tolist() == flat(corrected(literal(distance), distance))


@pytest.mark.parametrize(("order", "sign"), [("min", 1), ("max", -1)])
@pytest.mark.parametrize("limit", [1, 9, 30])
def test_min_and_max_at_a_limit(sample, literal, arrange, order, sign, limit):
    rounds = literal(sign * sample.distance, limit)
    paper = arrange(sample, method="tma", order=order, limit=limit, fidelity="paper")
    assert paper.index.tolist() == flat(rounds)
    assert paper.num_rounds == len(rounds)
    exact = arrange(sample, method="tma", order=order, limit=limit)
    assert exact.index.tolist() == flat(corrected(rounds, sample.distance))[:limit]


@pytest.mark.parametrize("limit", [2, 9, 20])
def test_paper_nft_and_fft_at_a_limit_take_whole_rounds_of_each_half_and_drop_duplicates(
    sample, literal, arrange, limit
):
    nearest = flat(literal(sample.distance, limit - limit // 2))
    farthest = flat(literal(-sample.distance, limit // 2))
    nft = arrange(sample, method="tma", order="nft", limit=limit, fidelity="paper")
    fft = arrange(sample, method="tma", order="fft", limit=limit, fidelity="paper")
    assert nft.index.tolist() == list(dict.fromkeys(nearest + farthest[::-1]))
    assert fft.index.tolist() == list(dict.fromkeys(farthest + nearest[::-1]))


def test_corrected_halves_that_do_not_overlap_are_n_rows_and_fft_is_nft_reversed(smooth, unit, literal, arrange):
    smooth = smooth._replace(test=unit(smooth.test[:1] + 0.1 * smooth.test))
    nearest = flat(corrected(literal(smooth.distance), smooth.distance))[:11]
    farthest = flat(corrected(literal(-smooth.distance), smooth.distance))[:10]
    assert not set(nearest) & set(farthest)
    nft = arrange(smooth, method="tma", order="nft", limit=21)
    fft = arrange(smooth, method="tma", order="fft", limit=21)
    rt = arrange(smooth, method="tma", order="rt", limit=21, seed=5)
    assert nft.index.tolist() == nearest + farthest[::-1]
    assert fft.index.tolist() == farthest + nearest[::-1]
    assert sorted(rt.index.tolist()) == sorted(nft.index.tolist())
    assert rt.index.tolist() != nft.index.tolist()


@pytest.mark.parametrize("order", ["nft", "fft", "rt"])
@pytest.mark.parametrize("missing", [0, 1, 5])
def test_corrected_gives_exactly_n_distinct_rows_where_the_halves_overlap(sample, arrange, order, missing):
    limit = len(sample.train) - missing
    arranged = arrange(sample, method="tma", order=order, limit=limit)
    assert len(arranged.index) == limit
    assert len(np.unique(arranged.index)) == limit


def test_the_half_that_comes_second_goes_further_down_its_list(sample, literal, arrange):
    limit = len(sample.train)
    half = limit // 2
    first = flat(corrected(literal(sample.distance), sample.distance))[:half]
    second = [row for row in flat(corrected(literal(-sample.distance), sample.distance)) if row not in set(first)]
    nft = arrange(sample, method="tma", order="nft", limit=limit)
    assert nft.index.tolist() == first + second[: limit - half][::-1]


@pytest.mark.parametrize("order", ["nft", "fft", "rt"])
def test_a_limit_of_one_is_the_nearest_row(sample, arrange, order):
    nearest = np.maximum(sample.distance.min(axis=1), -1)
    assert arrange(sample, method="tma", order=order, limit=1).index.tolist() == [int(nearest.argmin())]


@pytest.mark.parametrize("fidelity", ["paper", "corrected"])
def test_rounds_keep_their_numbers_and_rows(sample, arrange, fidelity):
    whole = arrange(sample, method="tma", order="nft", fidelity=fidelity)
    part = arrange(sample, method="tma", order="nft", rounds=(1, 3), fidelity=fidelity)
    kept = (whole.round >= 1) & (whole.round < 3)
    assert part.index.tolist() == whole.index[kept].tolist()
    assert part.round.tolist() == whole.round[kept].tolist()
    assert part.num_rounds == 2
    reverse = arrange(sample, method="tma", order="fft", rounds=(1, 3), fidelity=fidelity)
    assert reverse.index.tolist() == part.index.tolist()[::-1]


def test_a_limit_inside_rounds_is_exact_when_corrected_and_whole_rounds_in_paper(sample, literal, arrange):
    sizes = [len(each) for each in literal(sample.distance)]
    whole = arrange(sample, method="tma", order="nft", rounds=(0, 3))
    cut = arrange(sample, method="tma", order="nft", rounds=(0, 3), limit=sizes[0] + 1)
    assert cut.index.tolist() == whole.index[: sizes[0] + 1].tolist()
    paper = arrange(sample, method="tma", order="nft", rounds=(0, 3), limit=sizes[0] + 1, fidelity="paper")
    assert len(paper.index) == sizes[0] + sizes[1]


def test_rounds_beyond_the_last_are_refused_with_their_number(sample, literal, arrange):
    last = len(literal(sample.distance))
    assert arrange(sample, method="tma", order="nft", rounds=(last - 1, last)).num_rounds == 1
    with pytest.raises(InvalidInput, match=rf"rounds: got \[0, {last + 1}\), but there are {last} rounds"):
        arrange(sample, method="tma", order="nft", rounds=(0, last + 1))
    with pytest.raises(InvalidInput, match=f"there are {last} rounds"):
        arrange(sample, method="tma", order="nft", rounds=(last + 50, last + 60))


def test_a_limit_above_the_rows_in_rounds_is_refused_with_both(sample, literal, arrange):
    size = len(literal(sample.distance)[0])
    with pytest.raises(InvalidInput, match=f"limit: got {size + 1}, wanted at most {size}"):
        arrange(sample, method="tma", order="nft", rounds=(0, 1), limit=size + 1)


def test_every_row_tells_who_chose_it_and_who_is_nearest(sample, literal, arrange):
    distance = sample.distance
    arranged = arrange(sample, method="tma", order="nft")
    remaining = np.ones(len(distance), dtype=bool)
    for number, rows in enumerate(literal(distance)):
        work = np.where(remaining[:, None], distance, np.inf)
        choosers = work.argmin(axis=0)
        for row in rows:
            place = int(np.flatnonzero(arranged.index == row)[0])
            assert arranged.round[place] == number
            assert arranged.nearest_test[place] == distance[row].argmin()
            assert arranged.nearest_similarity[place] == min(-distance[row].min(), 1.0)
            assert arranged.score[place] == min((-distance[row, choosers == row]).max(), 1.0)
        remaining[rows] = False


def test_no_array_depends_on_the_memory_budget(sample, arrange):
    for order, limit in (("nft", None), ("nft", 25), ("max", 13)):
        small = arrange(sample, method="tma", order=order, limit=limit, budget=1)
        large = arrange(sample, method="tma", order=order, limit=limit)
        for name in ("index", "round", "score", "nearest_test", "nearest_similarity"):
            assert getattr(small, name).tobytes() == getattr(large, name).tobytes()
