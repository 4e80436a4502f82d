"""Server-sent events of run changes."""
