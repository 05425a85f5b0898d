"""Commands of ours as one would type them, for sentences that say what helps."""

from __future__ import annotations

import shlex


def quoted(*arguments: str) -> str:
    """``runoff`` with ``arguments``, as a shell takes them."""
    return f"runoff {' '.join(shlex.quote(argument) for argument in arguments)}"
