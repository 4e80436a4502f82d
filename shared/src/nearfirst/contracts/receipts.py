r"""Order digests and training receipts: hash chains over example ids. Pure functions, no I/O.

An *order* is named by a chain over its rows, so that a changed row is found where it stands:

    p_{-1} = sha256("nearfirst-order-v1\0" || dataset digest)
    p_k    = sha256(p_{k-1} || u64(len(id_k)) || id_k)            arrangement digest = "sha256:" + hex(p_{N-1})

A *receipt* is a chain over the optimizer steps that consumed it (DESIGN: h_t = sha256(h_{t-1} + t + ids)):

    h_0 = sha256(arrangement digest)
    h_t = sha256(h_{t-1} || u64(t) || u64(len(id)) || id || ...)   for step t = 1, 2, ..., its ids in order

Strings are UTF-8, u64 is 8 bytes big-endian, heads are 32 raw bytes, hex in files. Lengths are hashed so that two
different lists of ids never give the same bytes.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence

from nearfirst.contracts.base import Contract

_ORDER_TAG = b"nearfirst-order-v1\0"


def _framed(text: str) -> bytes:
    raw = text.encode()
    return len(raw).to_bytes(8, "big") + raw


def order_genesis(dataset_digest: str) -> bytes:
    """Head of the order chain before the first row."""
    return hashlib.sha256(_ORDER_TAG + dataset_digest.encode()).digest()


def extend_order(head: bytes, example_id: str) -> bytes:
    """Head of the order chain after one more row."""
    return hashlib.sha256(head + _framed(example_id)).digest()


def order_heads(dataset_digest: str, ids: Iterable[str]) -> Iterator[bytes]:
    """The order chain's head after each row, in order."""
    head = order_genesis(dataset_digest)
    for example_id in ids:
        head = extend_order(head, example_id)
        yield head


def order_digest(dataset_digest: str, ids: Iterable[str]) -> str:
    """The digest that names an order: `sha256:<hex>`.

    >>> order_digest("sha256:00", ["a", "b"]) == order_digest("sha256:00", ["b", "a"])
    False
    """
    head = order_genesis(dataset_digest)
    for head in order_heads(dataset_digest, ids):  # noqa: B007  (the last head is wanted)
        pass
    return f"sha256:{head.hex()}"


def receipt_genesis(arrangement_digest: str) -> bytes:
    """h_0: the head before the first optimizer step."""
    return hashlib.sha256(arrangement_digest.encode()).digest()


def extend_receipt(head: bytes, step: int, ids: Sequence[str]) -> bytes:
    """h_t: the head after optimizer step `step` (from 1) consumed `ids`, in order."""
    return hashlib.sha256(head + step.to_bytes(8, "big") + b"".join(map(_framed, ids))).digest()


class Receipt(Contract):
    """What training proves: receipt.json beside a run's checkpoints, and GET /train-jobs/{id}/receipt."""

    arrangement_digest: str
    dataset_digest: str
    global_batch_size: int
    """Rows in an optimizer step; the last step of all may have fewer."""
    num_rows: int
    """Rows consumed, over all epochs."""
    steps: int
    head: str
    """h_steps in hex."""
    verified: bool
    """True when the chain of consumed ids equals the chain of planned ids."""


class ConsumedStep(Contract):
    """What one optimizer step consumed, from training's own log: a line of GET /train-jobs/{id}/consumed."""

    step: int
    """From 1."""
    ids: list[str]
    """Example ids, in the order in which they were consumed."""
    head: str
    """h_step in hex."""


def planned_steps(
    arrangement_digest: str, ids: Sequence[str], global_batch_size: int, num_rows: int
) -> Iterator[ConsumedStep]:
    """The steps that an order alone plans, each with the head that its receipt must have then.

    Args:
        arrangement_digest: names the order.
        ids: the order's ids; repeated over the epochs.
        global_batch_size: rows in a step; the last step of all may have fewer.
        num_rows: rows over all epochs.
    """
    head = receipt_genesis(arrangement_digest)
    for step, start in enumerate(range(0, num_rows, global_batch_size), start=1):
        stop = min(start + global_batch_size, num_rows)
        step_ids = [ids[position % len(ids)] for position in range(start, stop)]
        head = extend_receipt(head, step, step_ids)
        yield ConsumedStep(step=step, ids=step_ids, head=head.hex())
