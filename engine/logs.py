"""Structured logs: one JSON object a line, each with the log position it speaks of."""

from __future__ import annotations

import sys
from typing import Any

import structlog


def json_logger() -> Any:
    """A logger that writes JSON lines to stderr; times are ISO 8601 in UTC."""
    return structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
    )
