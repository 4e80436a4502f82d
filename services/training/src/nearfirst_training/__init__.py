"""Nearfirst's training service."""
