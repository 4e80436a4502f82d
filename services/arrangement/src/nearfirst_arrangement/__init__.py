"""Nearfirst's arrangement service."""
