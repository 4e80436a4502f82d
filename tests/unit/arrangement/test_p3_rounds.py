"""TMA with paper fidelity on real P3: the rounds are those of the literal loop, row for row."""

import numpy as np
import pytest

SAMPLE_ROWS = 3000


@pytest.mark.parametrize("seed", [0, 1])
def test_rounds_of_a_p3_sample_equal_the_literal_loop_row_for_row(p3, literal, arrange, seed):
    rows = np.sort(np.random.default_rng(seed).choice(len(p3.train), SAMPLE_ROWS, replace=False))
    sample = p3._replace(train=p3.train[rows], train_tasks=p3.train_tasks[rows])
    assert len(np.unique(sample.train, axis=0)) < SAMPLE_ROWS, "the sample has no ties: it shows nothing"

    arranged = arrange(sample, method="tma", order="nft", fidelity="paper", budget=32 * 2**20)

    expected = literal(sample.distance)
    found = [arranged.index[arranged.round == number].tolist() for number in range(arranged.num_rounds)]
    assert found == expected
    assert arranged.index.tolist() == [row for each in expected for row in each]


def test_float64_without_any_rounding_gives_the_same_rounds(p3, literal, arrange):
    rows = np.sort(np.random.default_rng(2).choice(len(p3.train), 1500, replace=False))
    sample = p3._replace(train=p3.train[rows], train_tasks=p3.train_tasks[rows])
    plain = -(sample.train.astype(np.float64) @ sample.test.astype(np.float64).T)
    arranged = arrange(sample, method="tma", order="nft", fidelity="paper")
    assert arranged.index.tolist() == [row for each in literal(plain) for row in each]
