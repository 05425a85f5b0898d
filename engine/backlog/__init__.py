"""The backlog: how runs and phases get into the log."""
