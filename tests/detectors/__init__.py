"""How right the detectors are: ``python -m tests.detectors`` scores them on labelled texts."""
