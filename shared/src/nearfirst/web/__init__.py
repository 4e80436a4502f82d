"""The FastAPI kit that every HTTP service is made with: errors, keys, limits, pages, probes, metrics."""
