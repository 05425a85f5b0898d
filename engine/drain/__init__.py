"""The drain: workers, the loop that feeds them, and recovery of what a dead engine left."""
