"""Telling: a log line that cannot be written is owned up to, with the position of the log."""

from __future__ import annotations

from typing import Any

from engine.daemon.telling import READING_S, Reading, Teller


class Lines:
    """A logger that loses what it is given while ``full``."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, dict[str, Any]]] = []
        self.lost = 0
        self.full = False

    def info(self, event: str, **facts: Any) -> None:
        if self.full:
            self.lost += 1
        else:
            self.taken.append((event, facts))

    error = info


def test_lost_lines_are_counted_and_told_of_once() -> None:
    lines = Lines()
    teller = Teller(lines, lambda _: None, lambda: 7, lambda: lines.lost)
    teller.say("daemon.ready", "Ready.")
    lines.full = True
    teller.say("daemon.drift", "It drifts.")
    teller.complain("daemon.reload_failed", "It failed.")
    assert teller.lines_lost == 2
    lines.full = False
    teller.say("daemon.stopping", "It stops.", why="asked")
    teller.say("daemon.stopped", "Stopped.")
    told = "2 log lines before this one could not be written."
    assert lines.taken == [
        ("daemon.ready", {"pos": 7, "text": "Ready."}),
        ("daemon.stopping", {"pos": 7, "text": "It stops.", "why": "asked"}),
        ("daemon.lines_lost", {"pos": 7, "text": told, "lines": 2}),
        ("daemon.stopped", {"pos": 7, "text": "Stopped."}),
    ]


def test_a_long_reading_is_told_to_the_log_and_to_whoever_waits() -> None:
    """A service manager ends what has not begun after a minute and a half."""
    lines, waiting, now_s = Lines(), list[str](), [50.0]
    reading = Reading(lines, waiting.append, lambda: now_s[0])
    for after_s, reached in ((READING_S - 0.1, 1), (0.2, 20), (READING_S - 0.3, 30), (0.3, 1)):
        now_s[0] += after_s
        reading(reached, 1_000_000)
    told = [f"Reading the log: {reached} of 1000000 events." for reached in (20, 1)]
    assert waiting == told
    assert lines.taken == [
        ("daemon.reading", {"pos": pos, "text": text, "end": 1_000_000})
        for pos, text in zip((20, 1), told, strict=True)
    ]
