"""Batches: every sequence once, and a shape that depends on it alone."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nearfirst_embedding.batches import CPU_BATCH, GPU_BATCH, BatchSize, padded_width, plan_batches

MAX_LENGTHS = st.integers(1, 3000)


@st.composite
def lengths_and_limit(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    limit = draw(MAX_LENGTHS)
    lengths = draw(st.lists(st.integers(1, limit), min_size=1, max_size=200))
    return np.array(lengths, dtype=np.int32), limit


@given(lengths_and_limit(), st.sampled_from([BatchSize(1, 1), BatchSize(64, 100), CPU_BATCH, GPU_BATCH]))
def test_every_sequence_is_in_one_batch_that_it_fits(case: tuple[np.ndarray, int], size: BatchSize) -> None:
    lengths, limit = case
    batches = list(plan_batches(lengths, limit, size))
    assert sorted(np.concatenate([batch.rows for batch in batches]).tolist()) == list(range(len(lengths)))
    for batch in batches:
        assert (lengths[batch.rows] <= batch.width).all()
        assert batch.width <= limit
        assert 1 <= len(batch.rows) <= batch.num_rows <= size.rows
        assert batch.num_rows == 1 or batch.num_rows * batch.width <= size.tokens
    assert [batch.width for batch in batches] == sorted((batch.width for batch in batches), reverse=True)


@given(lengths_and_limit())
def test_the_shape_of_a_sequence_and_whether_it_has_padding_depend_on_it_alone(case: tuple[np.ndarray, int]) -> None:
    lengths, limit = case
    for batch in plan_batches(lengths, limit, CPU_BATCH):
        for row in batch.rows:
            (alone,) = plan_batches(lengths[row : row + 1], limit, CPU_BATCH)
            assert (alone.width, alone.num_rows) == (batch.width, batch.num_rows)
        has_padding = lengths[batch.rows] < batch.width
        assert has_padding.all() or not has_padding.any()


@given(MAX_LENGTHS, st.integers(1, 3000))
def test_padding_is_at_most_a_step(limit: int, length: int) -> None:
    length = min(length, limit)
    step = 16 if length < 256 else 64 if length < 1024 else 256
    assert 0 <= padded_width(length, limit) - length <= step
