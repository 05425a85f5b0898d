"""Whole drain sessions on a virtual clock, from a seed, checked against the invariants."""
