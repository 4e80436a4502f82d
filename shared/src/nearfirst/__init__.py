"""Nearfirst: arrange instruction data for a target test set, train in exactly that order, and prove it."""

__version__ = "0.1.0"
