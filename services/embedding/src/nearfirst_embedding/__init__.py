"""Nearfirst's embedding service."""
