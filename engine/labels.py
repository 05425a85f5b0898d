"""Labels: names of what a machine offers and a phase needs, such as ``gpu`` or ``linux-arm64``."""

from __future__ import annotations

import re
from collections.abc import Iterable

from engine.errors import UsageProblem

LABEL_CHARACTERS_MAX = 64
LABELS_MAX = 32
_LABEL = re.compile(rf"[a-z0-9][a-z0-9._-]{{0,{LABEL_CHARACTERS_MAX - 1}}}")


def checked_labels(texts: Iterable[str], what: str) -> tuple[str, ...]:
    """``texts`` in order of name, each once.

    Limits: at most 32, each of 1 to 64 lower-case letters, digits, dots, dashes and underscores,
    the first a letter or digit; so that no two are alike but for how they are written.  Raises
    UsageProblem naming ``what``.
    """
    found = tuple(sorted(set(texts)))
    if len(found) > LABELS_MAX:
        raise UsageProblem(
            f"{what} has {len(found)} labels.", remedy=f"give at most {LABELS_MAX}, such as gpu."
        )
    for text in found:
        if not _LABEL.fullmatch(text):
            raise UsageProblem(
                f"{what} has a label that cannot be one: {text[:80]!a}.",
                remedy=f"use 1 to {LABEL_CHARACTERS_MAX} of a-z, 0-9, '.', '-' and '_',"
                " a letter or digit first.",
            )
    return found
