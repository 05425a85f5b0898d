"""Findings: what an import could not map, counted, with a few examples."""

from __future__ import annotations

from engine.events import Finding

KINDS_MAX = 100
EXAMPLES_MAX = 3
EXAMPLE_CHARACTERS_MAX = 80


class Findings:
    """Counts remarks of one kind together; keeps the first three different examples of each."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._examples: dict[str, list[str]] = {}

    def note(self, what: str, example: object = None) -> None:
        """One more row of which ``what`` is true."""
        if what not in self._counts and len(self._counts) >= KINDS_MAX:
            what = "further remarks of other kinds"
        self._counts[what] = self._counts.get(what, 0) + 1
        shown = self._examples.setdefault(what, [])
        if example is None or len(shown) == EXAMPLES_MAX:
            return
        text = printable(_text(example))
        if text not in shown:
            shown.append(text)

    def listed(self) -> tuple[Finding, ...]:
        """All of them, the most frequent first."""
        by_count = sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))
        return tuple(
            Finding(what=what, count=count, example=" · ".join(self._examples[what]) or None)
            for what, count in by_count
        )


def _text(example: object) -> str:
    """``example`` as text; what JSON could just be read from may be too deep to be written."""
    try:
        return str(example)
    except RecursionError:
        return "(nested too deep to be shown)"


def printable(text: str, characters_max: int = EXAMPLE_CHARACTERS_MAX) -> str:
    """``text`` on one line, cut to ``characters_max``, fit for a terminal."""
    line = "".join(c if c.isprintable() else "�" for c in text[:characters_max])
    return line + "…" if len(text) > characters_max else line
