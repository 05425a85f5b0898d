"""Released rule sets: files that never change, each proved by its digest when it is read.

The log names a rule set and its digest in every event that came of it; a better set has a new
number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType

from engine.errors import LogUnreadable

BOUNDARY = "boundary-1"
FINGERPRINT = "fp-1"
TONGUES = "fp-1-tongues"
ZERO_YIELD = "zero-yield-1"

SHA256: Mapping[str, str] = MappingProxyType(
    {
        BOUNDARY: "6b48ceca39b6131f603b5c5feb31007fe26dbe9fa9668b26387d3715b1d075d3",
        FINGERPRINT: "f86872f4c508b4b45a7f5e11036b116cb2f4251bec57ff940de5c4afed78da7a",
        ZERO_YIELD: "9c2aac310fb6fc6d8977e83a3e168c03191864e5e9ae1641aaa2295beb7a882a",
    }
)
"""What the bytes of every released set hash to; the file of a set names a second file's."""


def text_of(name: str, sha256: str | None = None) -> str:
    """The text of a released file.  Raises LogUnreadable when it is not what was released.

    ``sha256``: what the first file of its set says of a second one.
    """
    file = resources.files("engine.detect").joinpath("rule_sets", f"{name}.toml")
    return proved(name, file.read_bytes(), sha256)


def proved(name: str, data: bytes, sha256: str | None = None) -> str:
    """``data`` as text.  Raises LogUnreadable when it is not the file that was released."""
    found, released = hashlib.sha256(data).hexdigest(), sha256 or SHA256.get(name, "")
    if found != released:
        raise LogUnreadable(
            f"the rule set {name} is not the one that was released (sha256 {found[:12]}…, not"
            f" {released[:12]}…), so nothing it says would mean what the log says.",
            remedy="install Runoff again; a changed rule set needs a new name.",
        )
    return data.decode("utf-8")
