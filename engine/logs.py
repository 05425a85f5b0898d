"""Structured logs: one JSON object a line, each with the log position it speaks of."""

from __future__ import annotations

import os
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


def words_logger() -> Any:
    """A logger that writes a line for a person to stderr; colours only on a terminal."""
    colours = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    return structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.dev.ConsoleRenderer(colors=colours),
        ],
    )


def logger_of(form: str) -> Any:
    """The logger for ``words``, ``json``, or ``auto``: words on a terminal, else JSON."""
    words = form == "words" or (form == "auto" and sys.stderr.isatty())
    return words_logger() if words else json_logger()
