"""The log on disk or in memory, and the one writer."""
