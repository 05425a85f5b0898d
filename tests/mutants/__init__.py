"""Mutants of the rules: small bugs that somebody could make, and the tests that must see them."""
