"""The queue and its workers: what runs where, and why the rest waits."""
