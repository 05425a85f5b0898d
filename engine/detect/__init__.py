"""Detectors: pure functions from what an attempt left behind to what it means."""
