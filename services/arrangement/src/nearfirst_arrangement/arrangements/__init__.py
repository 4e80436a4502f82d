"""Arrangements: asking for one and fetching its order."""
