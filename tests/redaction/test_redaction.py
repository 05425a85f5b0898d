"""Redaction: every known kind is covered, wherever the bytes are cut, and nothing else is."""

from __future__ import annotations

import hashlib
import random
import time
import uuid
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from engine.redaction.kinds import KINDS
from engine.redaction.stream import CARRY_BYTES_MAX, KEY_BYTES_MAX, Redactor, covered_bytes
from engine.redaction.texts import redacted
from tests.secrets import SECRETS, printed

HOME = Path(__file__).parents[2]
CASES = [(kind, *case) for kind, cases in SECRETS.items() for case in cases]


def covered(data: bytes) -> tuple[bytes, dict[str, int]]:
    counts: dict[str, int] = {}
    return covered_bytes(data, counts), counts


def streamed(data: bytes, cuts: list[int]) -> tuple[bytes, dict[str, int]]:
    redactor = Redactor()
    places = [0, *sorted(cuts), len(data)]
    parts = [redactor.feed(data[start:end]) for start, end in pairwise(places)]
    return b"".join(parts) + redactor.close(), redactor.counts


def pieces_of(secret: str) -> list[bytes]:
    """Parts of a secret, of which none may be left."""
    lines = secret.replace("\\n", "\n").split("\n")
    body = [line.strip() for line in lines if not line.startswith("-----")]
    return [line.encode()[8:] for line in body]


@pytest.mark.parametrize(("kind", "before", "secret"), CASES)
def test_every_kind_is_covered_and_counted(kind: str, before: str, secret: str) -> None:
    data = printed(kind, before, secret).encode()
    made, counts = covered(data)
    assert counts == {kind: 1}
    assert len(made) == len(data)
    assert not any(piece in made for piece in pieces_of(secret) if piece)
    assert made.startswith(b"step 3 says ")
    assert made.endswith(b" and goes on\n")


def test_there_is_a_sample_of_every_kind() -> None:
    assert set(SECRETS) == {kind.name for kind in KINDS}
    assert all(kind.source and kind.date and kind.anchors for kind in KINDS)


def test_every_kind_is_in_the_reference_with_its_source() -> None:
    text = (HOME / "docs" / "reference" / "redaction.md").read_text(encoding="utf-8")
    for kind in KINDS:
        [row] = [line for line in text.splitlines() if line.startswith(f"| `{kind.name}` |")]
        assert row.endswith(f"| {kind.source} |")


@pytest.mark.parametrize(("kind", "before", "secret"), CASES)
def test_a_secret_that_is_cut_in_two_is_covered(kind: str, before: str, secret: str) -> None:
    data = ("noise\n" + printed(kind, before, secret) + "more\n").encode()
    whole = covered(data)
    for cut in range(len(data)):
        assert streamed(data, [cut]) == whole


@pytest.mark.parametrize(("kind", "before", "secret"), CASES)
def test_a_secret_in_a_line_without_end_is_covered(kind: str, before: str, secret: str) -> None:
    line = printed(kind, before, secret).rstrip("\n").encode()
    for blanks in (CARRY_BYTES_MAX - 50, 3 * CARRY_BYTES_MAX):
        data = b" " * blanks + line + b" " * blanks
        made, counts = streamed(data, list(range(0, len(data), 5000)))
        assert counts == {kind: 1}
        assert len(made) == len(data)
        assert not any(piece in made for piece in pieces_of(secret) if piece)


RSA_LINES = SECRETS["private_key"][0][1].split("\n")
PGP_LINES = [
    "-----BEGIN PGP PRIVATE KEY BLOCK-----",
    "Version: GnuPG v2 (GNU/Linux)",
    "",
    *RSA_LINES[1:-1],
    "-----END PGP PRIVATE KEY BLOCK-----",
]


@pytest.mark.parametrize("lines", [RSA_LINES, PGP_LINES], ids=["rsa", "pgp"])
@pytest.mark.parametrize("prefix", ["", "| ", "> ", "app[12]: ", "2025-01-02T03:04:05Z (app) "])
def test_a_key_that_a_logger_printed_is_covered_wherever_it_is_cut(
    lines: list[str], prefix: str
) -> None:
    data = "".join(f"{prefix}{line}\n" for line in ["noise", *lines, "more"]).encode()
    whole = covered(data)
    assert whole[1] == {"private_key": 1}
    assert not any(line.encode() in whole[0] for line in RSA_LINES[1:-1])
    for cut in range(len(data)):
        assert streamed(data, [cut]) == whole, data[:cut]


@given(
    parts=st.lists(st.sampled_from(CASES), min_size=1, max_size=5),
    noise=st.lists(st.text(max_size=40), min_size=6, max_size=6),
    data=st.data(),
)
def test_cuts_never_change_what_is_stored(
    parts: list[tuple[str, str, str]], noise: list[str], data: st.DataObject
) -> None:
    text = (
        noise[0]
        + "\n"
        + "".join(
            printed(*part) + more + "\n" for part, more in zip(parts, noise[1:], strict=False)
        )
    )
    raw = text.encode("utf-8", "surrogatepass")
    cuts = data.draw(st.lists(st.integers(0, len(raw)), max_size=8))
    made, counts = streamed(raw, cuts)
    assert (made, counts) == covered(raw)
    assert len(made) == len(raw)
    assert not any(p in made for _, _, secret in parts for p in pieces_of(secret) if len(p) > 8)


@given(parts=st.lists(st.sampled_from(CASES), min_size=1, max_size=4), tail=st.binary(max_size=60))
def test_covering_twice_changes_nothing(parts: list[tuple[str, str, str]], tail: bytes) -> None:
    made, _ = covered("".join(printed(*part) for part in parts).encode() + tail)
    assert covered(made) == (made, {})


@given(data=st.binary(max_size=400))
def test_bytes_of_any_kind_keep_their_length(data: bytes) -> None:
    made, _ = streamed(data, [len(data) // 2])
    assert len(made) == len(data)


words = st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=12)
ordinary = st.one_of(
    words,
    st.uuids().map(str),
    st.binary(min_size=4, max_size=20).map(lambda seed: hashlib.sha256(seed).hexdigest()),
    st.binary(min_size=4, max_size=20).map(lambda seed: hashlib.sha1(seed).hexdigest()),
    st.lists(words, min_size=2, max_size=6).map(lambda parts: "/" + "/".join(parts) + ".py"),
    st.lists(words, min_size=2, max_size=6).map("-".join),
    st.lists(words, min_size=2, max_size=6).map("_".join),
    st.integers().map(str),
    st.datetimes().map(str),
)


@given(line=st.lists(ordinary, max_size=20).map(" ".join))
def test_hashes_ids_paths_and_words_are_left_alone(line: str) -> None:
    counts: dict[str, int] = {}
    assert redacted(line, counts) == line
    assert counts == {}


NEAR_MISSES = [
    "risk-assessment-of-the-whole-backlog-2025",
    "sk-learn-compatible-estimators-for-everyone",
    "task-0123456789abcdef0123456789abcdef",
    "https://example.com/a:b@c and user@example.com",
    "https://localhost:8080/x?y=1",
    "git@github.com:a/b.git",
    "bearer of bad news and nothing else here",
    "Authorization: required",
    "Error during authorization: insufficient permissions",
    "authorization: unauthorized_client",
    '{"authorization": "PermissionDenied"}',
    "authorization=org.example.security.AuthorizationManager",
    "api_key: str | None = None",
    "api_key must be set either by passing api_key to the client",
    "The api_key client option must be set",
    "secret_access_key is missing",
    "AKIA is a prefix",
    "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----",
    "sha256:eab3effdc5f98a3b41ac7a262117884c3a2cdd508ba07af05aa628d77c56c198",
    "req_0mQRjRmNQAyJe32x93KwV",
    "eyJhbGciOiJIUzI1NiJ9",
    "max_tokens=128001",
    "config=/etc/keys/sig=off",
]


@pytest.mark.parametrize("line", NEAR_MISSES)
def test_what_only_looks_like_a_secret_is_left_alone(line: str) -> None:
    counts: dict[str, int] = {}
    assert redacted(line, counts) == line
    assert counts == {}


def test_a_key_that_never_ends_is_covered_and_held_no_longer_than_allowed() -> None:
    body = b"".join(b"A1b2" * 16 + b"\n" for _ in range(KEY_BYTES_MAX // 50))
    data = b"-----BEGIN PRIVATE KEY-----\n" + body
    made, counts = streamed(data, list(range(0, len(data), 4096)))
    assert len(made) == len(data)
    assert counts.get("private_key", 0) >= 1
    assert made[:10_000].count(b"A1b2") == 0


NAMES = ["api key", "access token", "auth token", "client secret"]
CASED: dict[str, Callable[[str], str]] = {
    "lower": str.lower,
    "upper": str.upper,
    "title": str.title,
    "first": str.capitalize,
    "camel": lambda name: name[:1] + name.title()[1:],
}


@pytest.mark.parametrize("sign", ["=", ": ", '": "', "' = '", ":\t"])
@pytest.mark.parametrize("case", CASED.values(), ids=CASED.keys())
@pytest.mark.parametrize("gap", ["", "_", "-"])
@pytest.mark.parametrize("name", NAMES)
def test_a_named_key_is_covered_however_its_name_is_written(
    name: str, gap: str, case: Callable[[str], str], sign: str
) -> None:
    written = case(name).replace(" ", gap)
    secret = SECRETS["named_key"][0][1]
    made, counts = covered(f"{written}{sign}{secret}\n".encode())
    assert counts == {"named_key": 1}
    assert secret.encode() not in made


@pytest.mark.parametrize(
    "before",
    [
        "\\u0022",
        "\\u003d",
        "\\x22",
        "\\x3D",
        "\x1b[K",
        "\x1b[1;31m",
        "\x1b[2K\x1b[1G",
        "\\u001b[0m",
    ],
    ids=ascii,
)
def test_a_secret_behind_an_escape_is_covered(before: str) -> None:
    for kind in ("github_token", "openai_key", "jwt"):
        secret = SECRETS[kind][0][1]
        made, counts = covered(f"says {before}{secret} and\n".encode())
        assert counts == {kind: 1}
        assert secret.encode() not in made


@pytest.mark.parametrize("blank", [" ", "\t", "  ", "\t "])
@pytest.mark.parametrize("word", ["Bearer", "bearer", "BEARER", "BeaRer"])
def test_a_bearer_token_is_covered_behind_any_blank(word: str, blank: str) -> None:
    secret = SECRETS["bearer_token"][0][1]
    for name in ("Authorization", "AUTHORIZATION", "X-Auth"):
        made, counts = covered(f"{name}:{blank}{word}{blank}{secret}\n".encode())
        assert counts == {"bearer_token": 1}
        assert secret.encode() not in made


@pytest.mark.parametrize(
    "secret",
    ["a1B2c3D4e5F6", "5f0c8a9e-1b2d-4c3e-8f90-123456789012", "Basic dXNlcjpwYXNzd29yZA==",
     "token abcdefghijklmnop"],
)  # fmt: skip
def test_what_stands_behind_authorization_is_covered_when_it_may_be_a_secret(secret: str) -> None:
    _, counts = covered(f"Authorization: {secret}\n".encode())
    assert counts == {"authorization": 1}


def test_letters_beyond_ascii_keep_their_bytes() -> None:
    counts: dict[str, int] = {}
    secret = SECRETS["groq_key"][0][1]
    made = redacted(f"clé «{secret}» \udcff 鍵", counts)
    assert made.startswith("clé «[redacted:groq_key")
    assert made.endswith("» \udcff 鍵")
    assert counts == {"groq_key": 1}


HOSTILE = {
    "letters": b"a1",
    "anchors": b"sk-eyJ.AKIA",
    "urls": b"://:@",
    "jwt": b"eyJaaaaaaaa.",
    "keys": b"-----BEGIN PRIVATE KEY-----\n",
    "open keys": b"-----BEGIN PRIVATE KEY-----",
    "names": b"secret_access_key=",
    "bearers": b"bearer ",
    "runs": b"abcdefghijk1234567 ",
    "lines": b"abcdefghijk1234567\n",
    "blanks": b" ",
}


def cost_s(piece: bytes, size: int) -> float:
    data = (piece * (size // len(piece) + 1))[:size]
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        redactor = Redactor()
        redactor.feed(data)
        redactor.close()
        best = min(best, time.process_time() - start)
    return best


@pytest.mark.parametrize("piece", HOSTILE.values(), ids=HOSTILE.keys())
def test_twice_the_output_costs_less_than_three_times_the_time(piece: bytes) -> None:
    tick_s = 0.005
    assert cost_s(piece, 128 * 1024) < 3 * cost_s(piece, 64 * 1024) + tick_s


def test_ordinary_output_passes_fast() -> None:
    rng = random.Random(1)
    lines = [
        f"2025-01-02 03:04:05 INFO step {rng.randrange(99)} of run "
        f"{uuid.UUID(int=rng.getrandbits(128))} in /srv/ci/builds/80/project/app.py\n"
        for _ in range(8000)
    ]
    data = "".join(lines).encode()
    start = time.process_time()
    Redactor().feed(data)
    taken_s = time.process_time() - start
    assert len(data) / taken_s > 2_000_000, "bytes a second, a tenth of what was measured"
