import hashlib

import pytest

from nearfirst.client.demo.proof import find_faults
from nearfirst.contracts.receipts import ConsumedStep, Receipt

IDS = ["a", "b", "c", "d", "é", "f"]


def u64(number: int) -> bytes:
    return number.to_bytes(8, "big")


def framed(text: str) -> bytes:
    return u64(len(text.encode())) + text.encode()


def chain() -> tuple[str, list[str]]:
    """The order's digest, and the receipt's head after each of three steps of two rows, written out from the format."""
    order = hashlib.sha256(b"nearfirst-order-v1\0" + b"sha256:data").digest()
    for name in IDS:
        order = hashlib.sha256(order + framed(name)).digest()
    digest = f"sha256:{order.hex()}"
    head = hashlib.sha256(digest.encode()).digest()
    heads = []
    for step, names in enumerate((("a", "b"), ("c", "d"), ("é", "f")), start=1):
        head = hashlib.sha256(head + u64(step) + b"".join(map(framed, names))).digest()
        heads.append(head.hex())
    return digest, heads


DIGEST, HEADS = chain()
RECEIPT = Receipt(
    arrangement_digest=DIGEST,
    dataset_digest="sha256:data",
    global_batch_size=2,
    num_rows=6,
    steps=3,
    head=HEADS[-1],
    verified=True,
)
CONSUMED = [ConsumedStep(step=step + 1, ids=IDS[2 * step : 2 * step + 2], head=HEADS[step]) for step in range(3)]


def test_a_receipt_over_the_order_has_no_faults():
    assert find_faults(IDS, DIGEST, RECEIPT, CONSUMED, 3) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"verified": False}, "did not verify"),
        ({"head": "00" * 32}, "head"),
        ({"steps": 2}, "2 steps of 3"),
        ({"arrangement_digest": "sha256:other"}, "digest"),
        ({"dataset_digest": "sha256:other"}, "digest"),
        ({"global_batch_size": 3}, "head"),
    ],
)
def test_each_wrong_field_of_a_receipt_is_a_fault(change, reason):
    faults = find_faults(IDS, DIGEST, RECEIPT.model_copy(update=change), CONSUMED, 3)
    assert any(reason in fault for fault in faults)


def test_a_swapped_row_in_the_order_is_found_in_digest_head_and_log():
    swapped = ["a", "b", "d", "c", "é", "f"]
    faults = find_faults(swapped, DIGEST, RECEIPT, CONSUMED, 3)
    assert len(faults) == 3
    assert "training's log differs from the order at step 2" in faults


@pytest.mark.parametrize("change", [{"ids": ["f", "é"]}, {"head": "00" * 32}])
def test_a_log_of_other_ids_or_heads_is_found_where_it_differs(change):
    consumed = [*CONSUMED[:2], CONSUMED[2].model_copy(update=change)]
    assert find_faults(IDS, DIGEST, RECEIPT, consumed, 3) == ["training's log differs from the order at step 3"]


def test_a_log_that_is_cut_short_is_found():
    assert find_faults(IDS, DIGEST, RECEIPT, CONSUMED[:2], 3) == ["training's log has 2 steps of 3"]
