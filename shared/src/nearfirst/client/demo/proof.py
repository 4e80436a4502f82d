"""A training job's receipt, checked from the order alone and against training's own log."""

from collections.abc import Sequence

from nearfirst.contracts.receipts import ConsumedStep, Receipt, order_digest, planned_steps


def find_faults(
    order_ids: Sequence[str],
    arrangement_digest: str,
    receipt: Receipt,
    consumed: Sequence[ConsumedStep],
    num_steps: int,
) -> list[str]:
    """What is wrong with a receipt; empty when it proves that the order was trained on.

    The order's digest is recomputed from its ids, the planned steps are cut from the order, and the receipt's head is
    recomputed over them; training's log must list the same steps.

    Args:
        order_ids: ids of the arrangement's order, in order.
        arrangement_digest: what the server calls the order.
        receipt: what the job claims.
        consumed: training's own log of ids by step.
        num_steps: the steps that were asked for.

    Returns:
        One sentence for each fault.
    """
    faults = []
    if not receipt.verified:
        faults.append("the job did not verify it")
    recomputed_digest = order_digest(receipt.dataset_digest, order_ids)
    if not recomputed_digest == arrangement_digest == receipt.arrangement_digest:
        faults.append(
            f"the order's digest is {recomputed_digest}, the arrangement's {arrangement_digest} and "
            f"the receipt's {receipt.arrangement_digest}"
        )
    if receipt.steps != num_steps:
        faults.append(f"it covers {receipt.steps} steps of {num_steps}")
    size = receipt.global_batch_size
    planned = list(planned_steps(arrangement_digest, order_ids, size, num_steps * size))
    if receipt.head != planned[-1].head:
        faults.append(f"its head is {receipt.head}, recomputed from the order {planned[-1].head}")
    if list(consumed) != planned:
        faults.append(_first_difference(planned, consumed))
    return faults


def _first_difference(planned: Sequence[ConsumedStep], consumed: Sequence[ConsumedStep]) -> str:
    for expected, found in zip(planned, consumed, strict=False):
        if expected != found:
            return f"training's log differs from the order at step {expected.step}"
    return f"training's log has {len(consumed)} steps of {len(planned)}"
