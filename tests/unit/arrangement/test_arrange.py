"""The way in: every method is registered, and what can't be arranged is refused by name."""

import numpy as np
import pytest

from nearfirst.contracts.arrangements import ArrangementRules, Method
from nearfirst.contracts.problems import InvalidEmbeddings, InvalidInput
from nearfirst_arrangement.methods import METHODS
from nearfirst_arrangement.methods import arrange as arrange_rows

AS_IS = ArrangementRules(method="as_is")
WSD = ArrangementRules(method="wsd", order="nft")


def test_every_method_of_the_contract_is_registered():
    assert set(METHODS) == set(Method)


def test_as_is_and_random_need_no_embeddings():
    assert arrange_rows(AS_IS, None, None, 4).index.tolist() == [0, 1, 2, 3]
    shuffled = arrange_rows(ArrangementRules(method="random", seed=7), None, None, 100)
    assert sorted(shuffled.index.tolist()) == list(range(100)) != shuffled.index.tolist()
    assert shuffled.nearest_test is None


def test_a_seed_gives_this_shuffle_on_every_machine():
    """PCG64's bit stream is numpy's stable interface; the numbers are those of the reference generator."""
    shuffled = arrange_rows(ArrangementRules(method="random", seed=0), None, None, 8).index.tolist()
    draws = [int(np.random.PCG64(0).advance(k).random_raw()) for k in range(8)]
    assert shuffled == sorted(range(8), key=draws.__getitem__)


def test_as_is_with_embeddings_tells_the_nearest_test_row(sample, arrange):
    arranged = arrange(sample, method="as_is", limit=10)
    assert arranged.nearest_test.tolist() == sample.distance[:10].argmin(axis=1).tolist()


def test_raw_vectors_of_any_length_are_normalised_first(sample):
    scaled = sample.train * np.linspace(0.5, 40, len(sample.train), dtype=np.float32)[:, None]
    arranged = arrange_rows(WSD, scaled, sample.test * 3, len(scaled))
    np.testing.assert_allclose(arranged.nearest_similarity, -sample.distance.min(axis=1)[arranged.index], atol=1e-6)


def test_memory_mapped_vectors_give_the_same_order(sample, tmp_path):
    np.save(tmp_path / "train.npy", sample.train)
    mapped = np.load(tmp_path / "train.npy", mmap_mode="r")
    from_map = arrange_rows(WSD, mapped, sample.test, len(mapped))
    from_memory = arrange_rows(WSD, sample.train, sample.test, len(mapped))
    assert from_map.index.tolist() == from_memory.index.tolist()


@pytest.mark.parametrize(
    "rules", [AS_IS, ArrangementRules(method="random"), WSD, ArrangementRules(method="tma", order="rt")]
)
def test_a_limit_above_the_pool_is_refused_with_both_numbers(sample, rules):
    size = len(sample.train)
    with pytest.raises(InvalidInput, match=f"limit: got {size + 1}, wanted at most {size}"):
        arrange_rows(rules.model_copy(update={"limit": size + 1}), sample.train, sample.test, size)


def test_nan_is_refused_with_its_side_and_row(sample):
    broken = sample.test.copy()
    broken[3, 0] = np.nan
    with pytest.raises(InvalidEmbeddings, match="test_embeddings: row 3 has NaN"):
        arrange_rows(WSD, sample.train, broken, len(sample.train))


def test_other_widths_are_refused_with_both(sample):
    with pytest.raises(InvalidEmbeddings, match=rf"{sample.train.shape[1]} dimensions .* have 2:"):
        arrange_rows(WSD, sample.train, sample.test[:, :2] + 1, len(sample.train))


def test_a_number_of_vectors_that_is_not_that_of_rows_is_refused(sample):
    with pytest.raises(InvalidEmbeddings, match=f"got {len(sample.train)} rows, wanted 5"):
        arrange_rows(WSD, sample.train, sample.test, 5)


@pytest.mark.parametrize(("train", "test", "missing"), [(None, 1, "train"), (1, None, "test")])
def test_one_side_alone_is_refused(sample, train, test, missing):
    with pytest.raises(InvalidInput, match=f"{missing}_embeddings: got none"):
        arrange_rows(WSD, train and sample.train, test and sample.test, len(sample.train))


def test_methods_that_rank_by_similarity_ask_for_embeddings():
    with pytest.raises(InvalidInput, match="train_embeddings and test_embeddings: got none"):
        arrange_rows(WSD, None, None, 3)


def test_an_empty_pool_is_refused():
    with pytest.raises(InvalidInput, match="num_train: got 0"):
        arrange_rows(AS_IS, None, None, 0)


@pytest.mark.parametrize("rules", [WSD, ArrangementRules(method="tma", order="nft")])
def test_progress_can_stop_the_work(sample, rules):
    def stop(done, total, unit):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        arrange_rows(rules, sample.train, sample.test, len(sample.train), progress=stop)
