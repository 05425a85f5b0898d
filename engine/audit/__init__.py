"""Audit: verify a log, and say why it holds what it holds."""
