"""Calibration: what estimates came to, and by how much they should change.  It edits nothing."""
