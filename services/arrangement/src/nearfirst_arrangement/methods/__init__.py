"""Arrangement methods: pure functions from embeddings to an order. No datasets, no I/O."""

from nearfirst_arrangement.methods.arrange import METHODS, arrange
from nearfirst_arrangement.methods.arranged import ArrangedOrder, Pool, Precomputed

__all__ = ["METHODS", "ArrangedOrder", "Pool", "Precomputed", "arrange"]
