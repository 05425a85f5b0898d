"""Executors: whatever can execute a phase; they report facts and know no store."""
