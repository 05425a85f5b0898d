"""Redaction of bytes as they come, with bounded memory, however they are cut into pieces.

A secret is covered by a mark of the same length, ``[redacted:openai_key****]``, so that counts of
bytes and places in the stored output stay true.  What may be the beginning of a secret is held
back until its line ends: a line, at most 32 KiB of it, or a private key up to its end.

The guardian runs this, so nothing is imported until something stands there that may be a secret.
Most output is passed by cheap looks: for a few fixed words, for an ``@`` beside a ``://``, and
where there are runs of sixteen letters and digits, for the anchors of what is made of them.
"""

CARRY_BYTES_MAX = 16 * 1024
KEY_BYTES_MAX = 32 * 1024
RUN_BYTES_MIN = 16
WORDS = (b"secret", b"authorization", b"bearer", b"key=", b"sig=")
"""What stands, in any case, before secrets that need no run of sixteen letters and digits."""

ANCHORS = (
    (b"sk-", (b"sk-",)),
    (b"AIza", (b"AIza",)),
    (b"ya29.", (b"ya29.",)),
    (b"GOCSPX-", (b"GOCSPX-",)),
    (b"gh", (b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_")),
    (b"github_pat_", (b"github_pat_",)),
    (
        b"gl",
        (b"glpat-", b"gldt-", b"glrt-", b"glptt-", b"glcbt-", b"glft-", b"gloas-", b"glsoat-"),
    ),
    (b"xox", (b"xox",)),
    (b"xapp-", (b"xapp-",)),
    (b"hooks.slack.com/", (b"hooks.slack.com/",)),
    (b"_", (b"k_live_", b"k_test_", b"whsec_", b"hf_", b"api_org_", b"gsk_", b"r8_", b"npm_",
            b"dckr_pat_", b"dop_v1_", b"lsv2_")),
    (b"xai-", (b"xai-",)),
    (b"pplx-", (b"pplx-",)),
    (b"nvapi-", (b"nvapi-",)),
    (b"pypi-AgE", (b"pypi-AgE",)),
    (b"SG.", (b"SG.",)),
    (b"dapi", (b"dapi",)),
    (b"hvs.", (b"hvs.",)),
    (b"A", (b"AKIA", b"ASIA", b"ABIA", b"ACCA")),
    (b"Key=", (b"AccountKey=", b"SharedAccessKey=")),
    (b"eyJ", (b"eyJ",)),
)  # fmt: skip
"""What stands in every secret that needs a run, but for a private key, behind what stands in it:
one search for that spares the others.  A test holds them against the kinds."""

NAMES = (
    (b"session", (b"session",)),
    (b"api", (b"apikey", b"api_key", b"api-key")),
    (b"token", (b"accesstoken", b"access_token", b"access-token", b"authtoken", b"auth_token",
                b"auth-token")),
)  # fmt: skip
"""The same, in any case."""

_KEYS = (b"key", b"token", b"secret", b"bearer", b"authorization")
_BEFORE_BYTES = 24
_CAPITALS_BYTES_MAX = 64
"""A key id of AWS may have no digit, but then it is all capitals."""

_HEX = b"0123456789abcdefABCDEF-"
_DIGITS = b"0123456789"
_RUN_OF = bytes(
    0x61 if chr(byte).isascii() and (chr(byte).isalnum() or byte in b"_-") else 0x20
    for byte in range(256)
)
_RUN = b"a" * RUN_BYTES_MIN
_KEY_BEGIN = b"-----BEGIN "
_KEY_END = b"-----END "


class Redactor:
    """Covers the secrets of one stream: ``feed`` it pieces, then ``close`` it.

    ``counts``: how many secrets of each kind were covered so far.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self._carry = b""

    def feed(self, data: "bytes | memoryview") -> bytes:
        """What may be stored now: all but the last line, while that may still go on."""
        buffer = self._carry + data
        cut = buffer.rfind(b"\n") + 1
        begun = _open_key(buffer)
        if begun >= 0 and len(buffer) - begun <= KEY_BYTES_MAX:
            cut = min(cut, begun)
        elif len(buffer) - cut > 2 * CARRY_BYTES_MAX:
            # A line without an end: a secret that reaches the end stays back, and is found whole.
            covered = covered_bytes(buffer, self.counts, final=False)
            cut = len(buffer) - CARRY_BYTES_MAX
            self._carry = covered[cut:]
            return covered[:cut]
        self._carry = buffer[cut:]
        return covered_bytes(buffer[:cut], self.counts)

    def close(self) -> bytes:
        """The rest."""
        rest, self._carry = self._carry, b""
        return covered_bytes(rest, self.counts)


def covered_bytes(data: bytes, counts: "dict[str, int]", *, final: bool = True) -> bytes:
    """``data`` with its secrets covered; as long as before, and counted in ``counts``.

    ``final``: whether nothing follows; otherwise a secret that reaches the end is left for later.
    """
    parts = suspicious(data)
    if not parts and data.find(b"PRIVATE KEY") < 0:
        return data
    from engine.redaction.covering import cover  # noqa: PLC0415  see above

    return cover(data, parts, counts, final=final)


def suspicious(data: bytes) -> "list[tuple[int, int]]":
    """The lines of ``data`` that may hold a secret, as (start, end) in order, none twice."""
    lowered = data.lower()
    places: list[int] = []
    for word in WORDS:
        places += _found(lowered, word)
    if data.find(b"@") >= 0:
        places += _found(data, b"://")
    lines = _lines_at(data, places)
    shape = data.translate(_RUN_OF)
    if shape.find(_RUN) < 0:
        return lines
    anchored = _lines_at(data, _anchored(data, lowered))
    return sorted({*lines, *(line for line in anchored if _has_run(data, shape, *line))})


def _lines_at(data: bytes, places: "list[int]") -> "list[tuple[int, int]]":
    """The lines in which ``places`` are, in order, none twice."""
    lines: list[tuple[int, int]] = []
    done = -1
    for place in sorted(places):
        if place < done:
            continue
        start = data.rfind(b"\n", 0, place) + 1
        end = data.find(b"\n", place)
        done = len(data) if end < 0 else end + 1
        lines.append((start, done))
    return lines


def _anchored(data: bytes, lowered: bytes) -> "list[int]":
    """Where anchors of secrets stand that need a run, at least once in each line with one."""
    places: list[int] = []
    for text, gated in ((data, ANCHORS), (lowered, NAMES)):
        for gate, anchors in gated:
            if text.find(gate) >= 0:
                for anchor in anchors:
                    places += _found(text, anchor)
    return places


def _has_run(data: bytes, shape: bytes, first: int, last: int) -> bool:
    """Whether from ``first`` to ``last`` stands a run of sixteen that may be a secret."""
    start = shape.find(_RUN, first, last)
    while start >= 0:
        end = shape.find(b" ", start + RUN_BYTES_MIN, last)
        end = last if end < 0 else end
        if _may_be_secret(data, start, end):
            return True
        start = shape.find(_RUN, end, last)
    return False


def _may_be_secret(data: bytes, start: int, end: int) -> bool:
    """Not a word without digits; and not hexadecimal, as hashes are, unless called a key."""
    run = data[start:end]
    if len(run.translate(None, _DIGITS)) == len(run):
        return run.isupper() and len(run) <= _CAPITALS_BYTES_MAX
    if run.strip(_HEX):
        return True
    before = data[max(0, start - _BEFORE_BYTES) : start].lower()
    return any(word in before for word in _KEYS)


def _found(data: bytes, word: bytes) -> "list[int]":
    """Where ``word`` stands, once a line."""
    places: list[int] = []
    place = data.find(word)
    while place >= 0:
        places.append(place)
        line_end = data.find(b"\n", place)
        place = data.find(word, line_end) if line_end >= 0 else -1
    return places


def _open_key(data: bytes) -> int:
    """Where a private key begins that does not end in ``data``; -1 when there is none.

    It ends with the whole line of its end, for up to that line is what is passed on at once.
    """
    begun = data.rfind(_KEY_BEGIN)
    if begun < 0:
        return -1
    ended = data.find(_KEY_END, begun)
    if ended >= 0 and data.find(b"\n", ended) >= 0:
        return -1
    line_end = data.find(b"\n", begun)
    named = data.find(b"PRIVATE KEY", begun, line_end if line_end >= 0 else len(data))
    return begun if named >= 0 else -1
