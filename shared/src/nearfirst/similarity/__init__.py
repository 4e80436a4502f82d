"""Exact cosine similarities in blocks: aggregates over a test set, and nearest or farthest remaining rows."""
