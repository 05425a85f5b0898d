"""Build msgspec's view of types at import, before any thread can want it.

msgspec builds what it knows of a type at its first use, without a lock: two threads that use one
type for the first time at the same moment crash the interpreter (seen with msgspec 0.22.0 on
Python 3.11.7; ``tests/drain/test_first_use_in_threads.py`` shows it within a few starts).
"""

from __future__ import annotations

import msgspec


def prebuilt(*kinds: type[msgspec.Struct]) -> None:
    """Call at the end of a module whose types are decoded or converted to in threads."""
    for kind in kinds:
        msgspec.json.Decoder(kind)
