"""Celery with leases: the registry decides who runs what; a message is only a hint."""
