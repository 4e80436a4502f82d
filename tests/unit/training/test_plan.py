import numpy as np
import pytest

from nearfirst.contracts.problems import OrderMismatch
from nearfirst.contracts.training import ModelSpec, TrainSettings
from nearfirst.data.steps import rows_to_consume
from nearfirst_training.plan import Plan, ReceiptChain


def settings(**fields):
    return TrainSettings(model=ModelSpec(name_or_path="m"), global_batch_size=4, **fields)


def plan(ids="abcdefghij", **fields):
    index = np.arange(len(ids), dtype=np.int64)
    return Plan("sha256:d", "sha256:o", index, list(ids), 4, rows_to_consume(len(ids), settings(**fields)))


@pytest.mark.parametrize(
    ("fields", "steps"),
    [
        ({}, ["abcd", "efgh", "ij"]),
        ({"epochs": 2}, ["abcd", "efgh", "ijab", "cdef", "ghij"]),
        ({"max_steps": 2}, ["abcd", "efgh"]),
        ({"max_steps": 4}, ["abcd", "efgh", "ijab", "cdef"]),
        ({"max_steps": 9, "epochs": 1}, ["abcd", "efgh", "ij"]),
        ({"max_steps": 1, "epochs": 2}, ["abcd"]),
    ],
)
def test_steps_cut_the_order_repeated_over_the_epochs(fields, steps):
    made = plan(**fields)
    assert ["".join(made.step_ids(step)) for step in range(1, made.num_steps + 1)] == steps


def test_a_batch_larger_than_the_order_spans_epochs():
    assert "".join(plan("ab", epochs=3).step_ids(1)) == "abab"


def test_the_chain_goes_on_from_a_head_of_the_plan_and_from_no_other():
    whole = ReceiptChain(plan())
    heads = [whole.consume(list(ids)) for ids in ("abcd", "efgh", "ij")]
    resumed = ReceiptChain(plan(), step=2, head=heads[1])
    assert resumed.consume(["i", "j"]) == heads[2]
    with pytest.raises(OrderMismatch, match="step 2: the receipt so far"):
        ReceiptChain(plan(), step=2, head=heads[0])


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ("abdc", "row 3 of the step was 'd', the order has 'c'"),
        ("abc", "row 4 of the step was nothing, the order has 'd'"),
        ("abcde", "row 5 of the step was 'e', the order has nothing"),
    ],
)
def test_a_mismatch_says_which_row(ids, said):
    with pytest.raises(OrderMismatch, match=f"^step 1: {said}$"):
        ReceiptChain(plan()).consume(list(ids))


def test_ids_joined_differently_are_another_receipt():
    chain = ReceiptChain(Plan("sha256:d", "sha256:o", np.arange(2), ["ab", "c"], 4, 2))
    with pytest.raises(OrderMismatch):
        chain.consume(["a", "bc"])
