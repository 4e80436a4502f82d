"""Nearfirst's generation service."""
