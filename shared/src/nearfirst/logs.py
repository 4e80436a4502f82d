"""Logging: one line an event, for people or (`log_format: json`) for machines."""

import logging

import structlog

from nearfirst.settings import Settings


def configure_logging(settings: Settings) -> None:
    """Send this process's logs to stderr in the configured format, third-party libraries' included."""
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=False)
    )
    shared: list[structlog.types.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    # httpx and Alembic tell every call at INFO.
    for noisy in ("httpx", "httpx2", "alembic", "kombu", "celery.worker.strategy", "sentence_transformers"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
