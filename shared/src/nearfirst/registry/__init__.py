"""The run registry: datasets, runs, events and measurements in PostgreSQL or SQLite."""
