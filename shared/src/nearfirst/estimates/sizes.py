"""Counting elements, and sizes in words."""

import math
from collections.abc import Mapping

Shape = tuple[int, ...]


def num_elements(tensors: Mapping[str, Shape]) -> int:
    """Elements of all tensors."""
    return sum(map(math.prod, tensors.values()))


def in_gigabytes(num_bytes: int) -> str:
    """In units of 10^9 bytes, as GPUs and disks are sold: `53.9`; three digits at least where there are any.

    >>> in_gigabytes(53_907_324_928), in_gigabytes(1_234_567)
    ('53.9', '0.00123')
    """
    value = num_bytes / 1e9
    return f"{value:,.1f}" if value >= 10 else f"{value:.3g}"
