"""Runoff: drains a backlog of LLM-agent work and can prove afterwards why it did what it did."""

__version__ = "0.1.0"
