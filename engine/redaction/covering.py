"""Covering: where a secret of a known kind stands in bytes, a mark of the same length stands then.

Covering twice changes nothing, for no mark looks like a secret.
"""

import re
from collections.abc import Sequence

from engine.redaction.kinds import KINDS, Kind, any_anchor, compiled

_BEFORE_BYTES = 24
_STARTS = re.compile(
    rb"(?:^|[^A-Za-z0-9]|\\[nrt]|%[0-9A-Fa-f]{2}|\\x[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}"
    rb"|(?:\x1b|\\x1[bB]|\\u001[bB]|\\0?33|\\e)\[[0-9;?]{0,12}[A-Za-z])\Z"
)
"""What a word may begin behind: no letter or digit, but for those of an escape."""

_RANDOM = re.compile(rb"(?=[0-9]{0,255}[A-Za-z])(?=[A-Za-z]{0,255}[0-9])[A-Za-z0-9]{12}")
_LINE = re.compile(rb"[^\r\n]{1,16384}")
_KEY = KINDS[0].name


def cover(
    data: bytes, parts: Sequence[tuple[int, int]], counts: dict[str, int], *, final: bool
) -> bytes:
    """``data``, as long as before, with the secrets in ``parts`` covered and counted."""
    key, _, pattern = compiled()[0]
    made = data
    if b"PRIVATE KEY" in data:
        # A private key has many lines, so it is looked for in all of the data.
        made = _sought(made, key, pattern, counts, len(data) if not final else -1)
    pieces: list[bytes] = []
    last = 0
    for start, end in parts:
        pieces.append(made[last:start])
        unfinished = end - start if not final and end == len(data) else -1
        pieces.append(_covered_line(made[start:end], counts, unfinished))
        last = end
    pieces.append(made[last:])
    return b"".join(pieces)


def mark(kind: str, length: int) -> bytes:
    """What covers a secret of ``length`` bytes; only stars where the kind does not fit."""
    label = b"[redacted:" + kind.encode()
    if length <= len(label):
        return b"*" * length
    return label + b"*" * (length - len(label) - 1) + b"]"


def _covered_line(line: bytes, counts: dict[str, int], unfinished: int) -> bytes:
    lowered = line.lower()
    if any_anchor().search(lowered) is None:
        return line
    for kind, anchors, pattern in compiled()[1:]:
        # What was covered before is gone from ``line`` only, which costs a search at most.
        sought_in = lowered if kind.any_case else line
        if any(anchor in sought_in for anchor in anchors):
            line = _sought(line, kind, pattern, counts, unfinished)
    return line


def _sought(
    data: bytes, kind: Kind, pattern: re.Pattern[bytes], counts: dict[str, int], unfinished: int
) -> bytes:
    """``data`` with every secret of one kind covered; one that ends at ``unfinished`` stays."""

    def put(found: re.Match[bytes]) -> bytes:
        group = next((name for name, text in found.groupdict().items() if text is not None), 0)
        secret = found[group]
        by_chance = kind.random or group == "by_chance"
        if found.end() == unfinished or not _is_secret(kind, found, secret, by_chance=by_chance):
            return found[0]
        made = _cover_of(kind, secret)
        if made == secret:
            return found[0]
        counts[kind.name] = counts.get(kind.name, 0) + 1
        start, end = found.start(group) - found.start(), found.end(group) - found.start()
        return found[0][:start] + made + found[0][end:]

    return pattern.sub(put, data)


def _is_secret(kind: Kind, found: re.Match[bytes], secret: bytes, *, by_chance: bool) -> bool:
    """Whether it begins a word of its own, and looks made by chance where it must."""
    before = found.string[max(0, found.start() - _BEFORE_BYTES) : found.start()]
    if kind.name not in _INSIDE and not _STARTS.search(before):
        return False
    if not secret.strip(b"*"):
        return False
    return not by_chance or _RANDOM.search(secret) is not None


_INSIDE = frozenset({_KEY, "url_password", "aws_secret", "named_key", "authorization",
                     "azure_signature", "slack_webhook", "bearer_token"})  # fmt: skip
"""Kinds that are known by what stands before them, which may itself stand in a word."""


def _cover_of(kind: Kind, secret: bytes) -> bytes:
    """The mark; of a private key line by line, so that lines stay lines."""
    if kind.name != _KEY:
        return mark(kind.name, len(secret))
    first = _LINE.search(secret)
    return _LINE.sub(
        lambda line: (
            mark(kind.name, len(line[0]))
            if first and line.start() == first.start()
            else b"*" * len(line[0])
        ),
        secret,
    )
