"""What fingerprints are not moved by, and what they tell apart, on texts of many origins."""

from __future__ import annotations

import random
import time
from itertools import combinations
from string import ascii_lowercase

import pytest
from hypothesis import given, strategies as st

from engine.detect import Fingerprint, Outcome, detectors
from engine.detect.words import masked_word
from engine.redaction.covering import mark
from tests import fingerprint_scores
from tests.secrets import SECRETS

plain = detectors("standard-1")


def print_of(
    text: str, *, stdout: str = "", stderr: str = "", run_id: str = "", workspace: str | None = None
) -> Fingerprint:
    made = plain.fingerprint(
        Outcome(
            ended="exited",
            succeeded=False,
            final_state="FAILED",
            exit_code=1,
            reason=text or None,
            stdout=stdout,
            stderr=stderr,
            run_id=run_id,
            workspace=workspace,
        )
    )
    assert made is not None
    return made


HEADERS = [
    "2025-11-26T07:13:47.639617Z ",
    "2025-09-24 08:11:33,123 ERROR [worker-3] ",
    "[2025-12-20 18:15:50] ERROR: ",
    "2025-01-01 10:00:00,000 - app.executor - ERROR - ",
    "2025-01-01 10:00:00.123 | ERROR    | app.run:main:12 - ",
    "ERROR:root:",
    "[12/Mar/2025:22:06:02 +0000] ERROR [worker-32] ",
    "Dec  2 01:06:52 build-host-3 drain[8905]: ",
    "[Wed Oct 11 14:32:52.123456 2000] [core:error] [pid 35708] [client 10.0.0.9:4321] ",
    "2023/01/01 00:00:00 [error] 1234#1234: *5 ",
    "17/06/09 20:10:40 ERROR ",
    "081109 203518 143 ERROR ",
    "11-26 16:13:38.811  1702  2395 E Runner: ",
    "E1126 10:00:00.123456    1234 runner.go:123] ",
    "1761052976.087 ",
    "07:54:43.001 [main] ERROR ",
    "2015-07-29 17:41:44,747 - ERROR  [QuorumPeer[myid=1]/0:0:0:0:0:0:0:0:2181:Election@774] - ",
    "build_1  | ",
    "\x1b[1;31mERROR\x1b[0m: ",
]


@pytest.mark.parametrize("header", HEADERS)
def test_what_loggers_put_in_front_changes_nothing(header: str) -> None:
    told = "cannot reach the index of 'wheels' in step 7"
    assert print_of(header + told).fingerprint == print_of(told).fingerprint


TRACES = {
    "python": (
        (
            'Traceback (most recent call last):\n  File "{P}/a.py", line {N}, in f\n    g()\n'
            "ValueError: bad tier"
        ),
        "ValueError: bad tier",
    ),
    "python, chained": (
        (
            'Traceback (most recent call last):\n  File "{P}/a.py", line {N}, in f\nKeyError: 1\n\n'
            "During handling of the above exception, another exception occurred:\n\n"
            'Traceback (most recent call last):\n  File "{P}/a.py", line {N}, in g\n'
            "RuntimeError: no tier"
        ),
        "RuntimeError: no tier",
    ),
    "python, a group": (
        (
            "  + Exception Group Traceback (most recent call last):\n"
            '  |   File "{P}/a.py", line {N}, in f\n  | ExceptionGroup: two (1 sub-exception)\n'
            "  +-+---------------- 1 ----------------\n    | Traceback (most recent call last):\n"
            '    |   File "{P}/b.py", line {N}, in g\n    | ValueError: bad tier\n'
            "    +------------------------------------"
        ),
        "ValueError: bad tier",
    ),
    "pytest": (
        (
            "    def test_x():\n>       f()\nE       ValueError: bad tier\n\n"
            "{P}/test_a.py:{N}: ValueError"
        ),
        "ValueError: bad tier",
    ),
    "node": (
        (
            "{P}/index.js:{N}\n    throw new TypeError('x')\n    ^\n\n"
            "TypeError: x is not a function\n    at load ({P}/index.js:{N}:9)\n"
            "    at node:internal/main:{N}:4\n\nNode.js v18.12.1"
        ),
        "TypeError: x is not a function",
    ),
    "jvm": (
        (
            'Exception in thread "main" java.lang.IllegalStateException: wrapped\n'
            "\tat a.B.c(B.java:{N})\nCaused by: java.io.IOException: stream closed\n"
            "\tat x.Y.z(Y.java:{N})\n\t... 3 more"
        ),
        "java.io.IOException: stream closed",
    ),
    "go": (
        (
            "panic: assignment to entry in nil map\n\ngoroutine {N} [running]:\nmain.main()\n"
            "\t{P}/main.go:{N} +0x1d"
        ),
        "panic: assignment to entry in nil map",
    ),
    "rust": (
        (
            "thread 'main' panicked at {P}/main.rs:{N}:10:\nno tier\n"
            "note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace"
        ),
        "panic: no tier",
    ),
    "rust before 1.73": (
        "thread 'main' panicked at 'no tier', {P}/main.rs:{N}:10",
        "panic: no tier",
    ),
    ".net": (
        (
            "Unhandled exception. System.NullReferenceException: Object reference not set.\n"
            "   at Program.Main() in {P}/Program.cs:line {N}"
        ),
        "System.NullReferenceException: Object reference not set",
    ),
    "ruby": (
        (
            "{P}/app.rb:{N}:in `foo': undefined method `bar' for nil (NoMethodError)\n"
            "\tfrom {P}/app.rb:{N}:in `<main>'"
        ),
        "NoMethodError: undefined method 'bar' for nil",
    ),
    "php": (
        (
            "PHP Fatal error:  Uncaught TypeError: must be of type int in {P}/a.php:{N}\n"
            "Stack trace:\n#0 {{main}}"
        ),
        "TypeError: must be of type int in <path>",
    ),
    "shell": ("{P}/run.sh: line {N}: uv: command not found", "uv: command not found"),
    "json": (
        '{{"level":"error","ts":{N},"error":{{"type":"overloaded_error","message":"Overloaded"}}}}',
        "overloaded_error: Overloaded",
    ),
    "logfmt": (
        'time="2025-01-01T00:00:{N}Z" level=fatal msg="cannot start" error="port in use"',
        "cannot start: port in use",
    ),
}


@pytest.mark.parametrize(("text", "template"), TRACES.values(), ids=TRACES.keys())
def test_the_last_exception_speaks_whatever_the_place(text: str, template: str) -> None:
    one, other = (
        print_of(text.format(P=place, N=number))
        for place, number in (("/srv/ci/b", 11), ("/opt/agent/ws_1f", 42))
    )
    assert one.template == template
    assert one.fingerprint == other.fingerprint


APART = [
    ("HTTP/1.1 404 Not Found", "HTTP/1.1 500 Internal Server Error"),
    ("upstream said status=502", "upstream said status=503"),
    ('{"error":{"code":429,"message":"x"}}', '{"error":{"code":500,"message":"x"}}'),
    ("ERROR 1045 (28000): denied", "ERROR 1049 (42000): denied"),
    ("ORA-00942: no", "ORA-01017: no"),
    ("curl: (6) failed", "curl: (7) failed"),
    ("failed with 0x80070005", "failed with 0x80070002"),
    ("killed by signal 9", "killed by signal 11"),
    ("KeyError: 17", "KeyError: 18"),
    ("No module named 'cv2'", "No module named 'cv3'"),
    ("Cannot find module './a'", "Cannot find module './b'"),
    ("No matching version found for a@1.0.0", "No matching version found for a@2.0.0"),
    ("java.lang.ClassNotFoundException: com.a.Main", "java.lang.ClassNotFoundException: com.b.M"),
    ("open '/a/x.json': ENOENT", "open '/a/y.json': ENOENT"),
    ("'utf-8' codec can't decode byte 0xff", "'utf-16' codec can't decode byte 0xff"),
    ("IPv4 is unreachable", "IPv6 is unreachable"),
    ("A_KEY: unbound variable", "B_KEY: unbound variable"),
    ("no such table: runs", "no such table: phases"),
    ("stopped (stop_reason=max_tokens) early", "stopped (stop_reason=refusal) early"),
    (
        "error: subprocess-exited-with-error\n\n× Building wheel for lxml failed.",
        "error: subprocess-exited-with-error\n\n× Building wheel for numpy failed.",
    ),
    (
        "FAILURE: Build failed with an exception.\n\n* What went wrong:\nNo task ':app:a'.",
        "FAILURE: Build failed with an exception.\n\n* What went wrong:\nNo task ':app:b'.",
    ),
]


@pytest.mark.parametrize(("one", "other"), APART)
def test_near_misses_stay_apart(one: str, other: str) -> None:
    assert print_of(one).fingerprint != print_of(other).fingerprint


HOSTS = ["localhost", "runner-1d14f440", "ip-10-0-199-16", "node08.cluster.example.net",
         "db-18.internal", "127.0.0.1", "[::1]"]  # fmt: skip
SLOTS = {
    "hosts": ("cannot reach {}:8080 now", HOSTS),
    "hosts in fields": ("HTTPConnectionPool(host='{}', port=1): timed out", HOSTS),
    "addresses": ("bad link {} here", ["00:1a:2b:3c:4d:5e", "2607:f140::8:c6b3", "fe80::1:2%eth0"]),
    "numbers": ("used {} tokens", ["7", "88096", "1,951,317", "4.245.385", "0x7f00"]),
    "durations": ("gave up after {} of it", ["300s", "30498ms", "5m43s", "0,01 s", "64.9 seconds"]),
    "ids": ("run {} failed", ["5a0c2b1e-aaaa-4bbb-8ccc-0123456789ab", "e40c89af01", "run-2025-77"]),
    "folders": (
        "cannot write to '{}'",
        ["/srv/a/b.db", "C:\\a\\b.db", "~/b.db", "./b.db", "a/b.db"],
    ),
    "files for a moment": ("No such file: '{}'", ["/tmp/tmpab12cd.json", "/x/tmp9z8y.json"]),
    "pods": ("pod web-{} is gone", ["5d4f8c7b9d-abcde", "7b9dcc5d4f-xyz12"]),
    "lists": ("cores {} failed", ["1", "1, 2", "1,2,3", "1 2 3 4"]),
    "sizes": ("sent {} of it", ["403 bytes", "1190 bytes (1.16 KB)", "3.5 MB"]),
    "users": ("refused for user {} again", ["root", "admin", "ci7"]),
    "numbered things": ("eth{} is down", ["0", "1", "12"]),
}


@pytest.mark.parametrize(("text", "values"), SLOTS.values(), ids=SLOTS.keys())
def test_what_varies_is_one_failure(text: str, values: list[str]) -> None:
    assert len({print_of(text.format(value)).fingerprint for value in values}) == 1


def test_advice_that_is_copied_or_not_changes_nothing() -> None:
    told = "fatal: Unable to create '/a/.git/index.lock': File exists."
    advice = "\n\nAnother git process seems to be running in this repository, e.g.\nan editor."
    more = "\nCannot unstage modified files"
    assert len({print_of(told + end).fingerprint for end in ("", advice, advice + more)}) == 1


def test_a_secret_of_any_length_is_one_slot() -> None:
    one, other = (f"wrong key [redacted:openai_key{'*' * n}] given" for n in (3, 90))
    assert print_of(one).template == "wrong key [redacted:openai_key] given"
    assert print_of(one).fingerprint == print_of(other).fingerprint
    assert SECRETS


@pytest.mark.parametrize(
    "text", ["wrong key {} given", "refused: authorization: {}", "Boom: {}\n  more"]
)
def test_a_secret_is_as_long_as_any_other_of_its_mark(text: str) -> None:
    """Marks of stars only, where the label does not fit, and of every length beyond it."""
    label = len("[redacted:authorization")
    lengths = (range(4, label + 1), (label + 1, label + 2, 40, 4096, 4200, 20_000))
    for some in lengths:
        told = {print_of(text.format(mark("authorization", n).decode())).fingerprint for n in some}
        assert len(told) == 1


words = st.text(ascii_lowercase, min_size=3, max_size=8)
messages = st.lists(words, min_size=1, max_size=6).map(lambda parts: "Boom: " + " ".join(parts))
noise = st.lists(
    st.sampled_from([
        "2025-01-01 00:00:00,000 INFO step 3 of 9",
        "[2025-01-01 00:00:00] DEBUG: cache warm",
        "Process finished with exit code 1",
        "npm ERR! A complete log of this run can be found in:",
        "note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace",
    ]),
    max_size=4,
)  # fmt: skip
hosts = st.sampled_from(HOSTS)


@given(message=messages, before=noise, after=noise, end=st.sampled_from(["\n", "\r\n"]))
def test_noise_around_a_failure_changes_nothing(
    message: str, before: list[str], after: list[str], end: str
) -> None:
    told = f"FatalError: {message}"
    noisy = end.join([*before, told, *after])
    assert print_of(noisy).fingerprint == print_of(told).fingerprint
    assert print_of("", stderr=noisy).fingerprint == print_of("", stderr=told).fingerprint


@given(
    message=messages,
    chain=st.tuples(hosts, hosts),
    ports=st.tuples(*[st.integers(1000, 65535)] * 2),
)
def test_other_hosts_and_ports_change_nothing(
    message: str, chain: tuple[str, str], ports: tuple[int, int]
) -> None:
    one, other = (
        print_of(f"{message} at {host}:{port} now") for host, port in zip(chain, ports, strict=True)
    )
    assert one.fingerprint == other.fingerprint


@given(texts=st.lists(messages, min_size=2, max_size=8, unique=True), seed=st.integers())
def test_neither_order_nor_memory_changes_anything(texts: list[str], seed: int) -> None:
    first = {text: print_of(text) for text in texts}
    masked_word.cache_clear()
    random.Random(seed).shuffle(texts)
    assert {text: print_of(text) for text in texts} == first
    assert all(first[a] != first[b] for a, b in combinations(texts, 2))


@pytest.mark.skipif(
    not fingerprint_scores.DATA.exists(), reason="dev_fingerprint.jsonl is not here"
)
def test_the_development_data_is_told_apart_as_well_as_it_was() -> None:
    found = fingerprint_scores.judged(fingerprint_scores.rows_of(fingerprint_scores.DATA))
    scores = fingerprint_scores.scores(found)
    assert scores["f1"] >= 0.99
    assert scores["precision"] == 1
    assert fingerprint_scores.near_misses(found)["apart"] == 1


def test_fingerprints_are_made_fast_enough() -> None:
    """A loose floor, a fifth of what was measured; the figures are in the scorer's output."""
    texts = [text.format(P="/srv/a", N=n) for n in range(20) for text, _ in TRACES.values()]
    start = time.process_time()
    for text in texts:
        print_of(text)
    assert len(texts) / (time.process_time() - start) > 1500


HOSTILE = {
    "returns": "a\r", "lines": "error\n", "words": "error ", "stars": "<*> ", "pieces": "a_",
    "paths": "/a/b ", "colons": "aa:", "codes": "E0308 ", "records": '{"error":{"message":"x"}}\n',
    "exceptions": "KeyError: x\n", "modules": "a.b.", "rails": "| ",
    "stamps": "2025-01-01 00:00:00 ",
    "levels": "ERROR: ",
    "errno": "[Errno 2] a: ", "os errors": " (os error 2", "german": "Berechtigung ",
    "chinese": "未找到命令", "half phrases": "Pfadspezifikation 'a", "marks": "[redacted:x**]",
    "open marks": "[redacted:x****", "stars only": "*",
    "shells": "x.sh: line 1: ", "components": "com.a.b: ", "months": "Jan ", "restated": "1 (1) ",
}  # fmt: skip


def cost_s(piece: str, size: int) -> float:
    text = (piece * (size // len(piece) + 1))[:size]
    best = float("inf")
    for _ in range(3):
        masked_word.cache_clear()
        start = time.process_time()
        print_of(text)
        print_of("", stdout=text, stderr=text)
        best = min(best, time.process_time() - start)
    return best


@pytest.mark.parametrize("piece", HOSTILE.values(), ids=HOSTILE.keys())
def test_four_times_the_text_costs_less_than_six_times_the_time(piece: str) -> None:
    """An exponent of 1.2 is 5.3 times; a tick keeps short measurements from deciding."""
    tick_s = 0.01
    assert cost_s(piece, 64 * 1024) < 5.3 * cost_s(piece, 16 * 1024) + tick_s
