"""Commands of ours as one would type them, for sentences that say what helps."""

from __future__ import annotations

import shlex


def quoted(verbs: str, *ids: str, options: str = "") -> str:
    """``runoff`` with ``verbs``, ``ids`` and ``options``, as a shell and ``runoff`` take them.

    Where an id begins like an option, all ids stand last, behind ``--``.
    """
    named = " ".join(map(shlex.quote, ids))
    is_option_like = any(given.startswith("-") for given in ids)
    parts = (verbs, options, "--", named) if is_option_like else (verbs, named, options)
    return " ".join(("runoff", *filter(None, parts)))
