"""Datasets: registering and reading them."""
