"""The doctor: what around a log could hurt it, looked at before it does."""
