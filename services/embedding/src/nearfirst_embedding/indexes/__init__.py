"""Indexes: the vectors of a registered dataset, and exact search in them."""
