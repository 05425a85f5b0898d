"""What is typed: commands of ours in sentences that say what helps, and names of phases."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

CUTS_MAX = 1000
"""At so many slashes of a RUN/PHASE, the last ones, the one between the two is looked for."""


def quoted(verbs: str, *ids: str, options: str = "") -> str:
    """``runoff`` with ``verbs``, ``ids`` and ``options``, as a shell and ``runoff`` take them.

    Where an id begins like an option, all ids stand last, behind ``--``.
    """
    named = " ".join(map(shlex.quote, ids))
    is_option_like = any(given.startswith("-") for given in ids)
    parts = (verbs, options, "--", named) if is_option_like else (verbs, named, options)
    return " ".join(("runoff", *filter(None, parts)))


def cuts(name: str) -> Iterator[tuple[str, str]]:
    """The ways to read RUN/PHASE, cut at the last slash first; ids may hold slashes."""
    at = len(name)
    for _ in range(CUTS_MAX):
        at = name.rfind("/", 0, at)
        if at < 0:
            return
        yield name[:at], name[at + 1 :]
