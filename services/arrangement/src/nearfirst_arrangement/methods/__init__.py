"""Arrangement methods: pure functions from embeddings to an order. No datasets, no I/O."""

from nearfirst_arrangement.methods.arrange import METHODS, arrange
from nearfirst_arrangement.methods.arranged import ArrangedOrder, Pool

__all__ = ["METHODS", "ArrangedOrder", "Pool", "arrange"]
