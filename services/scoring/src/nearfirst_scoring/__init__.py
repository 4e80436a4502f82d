"""Nearfirst's scoring service."""
