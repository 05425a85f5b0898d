"""standard-1 fingerprints: what may change without changing the identity, and what may not."""

from __future__ import annotations

import hashlib
from datetime import datetime
from string import ascii_lowercase
from typing import Any

import pytest
from hypothesis import given, strategies as st

from engine.detect import Fingerprint, Outcome, detectors
from engine.events import Ended

plain = detectors("standard-1")

PYTHON = """Traceback (most recent call last):
  File "/srv/ci/8092/app/cli.py", line 219, in main
    run(args)
  File "/srv/ci/8092/app/runner.py", line 32, in run
    return step.execute(ctx)
KeyError: 'phase_id'"""
NODE = """/srv/app/index.js:12
    throw new TypeError('x')

TypeError: Cannot read properties of undefined (reading 'id')
    at load (/srv/app/index.js:12:9)
    at node:internal/main:3:4"""
JVM = """Exception in thread "main" java.lang.IllegalStateException: wrapped
\tat a.B.c(B.java:3)
Caused by: java.io.IOException: stream closed
\tat x.Y.z(Y.java:5)
\t... 3 more"""
GO = """panic: runtime error: index out of range [5] with length 3

goroutine 1 [running]:
main.main()
\t/srv/app/main.go:8 +0x1d"""
RUST = """thread 'main' panicked at src/main.rs:5:10:
called `Option::unwrap()` on a `None` value
note: run with `RUST_BACKTRACE=1`"""


def print_of(
    text: str = "",
    *,
    ended: Ended = "exited",
    exit_code: int | None = 1,
    signal: int | None = None,
    reason: str | None = None,
    stdout: str = "",
    run_id: str = "run-7",
    phase_id: str = "phase-a",
    workspace: str | None = None,
) -> Fingerprint:
    made = plain.fingerprint(
        Outcome(
            ended=ended,
            succeeded=False,
            final_state="FAILED",
            exit_code=exit_code,
            signal=signal,
            reason=reason,
            stdout=stdout,
            stderr=text,
            run_id=run_id,
            phase_id=phase_id,
            workspace=workspace,
        )
    )
    assert made is not None
    return made


@pytest.mark.parametrize(
    ("text", "template", "family"),
    [
        (PYTHON, "KeyError: 'phase_id'", "KeyError/1"),
        (NODE, "TypeError: Cannot read properties of undefined (reading 'id')", "TypeError/1"),
        (JVM, "java.io.IOException: stream closed", "java.io.IOException/1"),
        (
            GO,
            "panic: runtime error: index out of range [<*>] with length <*>",
            "panic/1",
        ),
        (RUST, "panic: called 'Option::unwrap()' on a 'None' value", "panic/1"),
        ("step 1 fine\nERROR: no luck today\nbye", "no luck today", "unnamed/1"),
        ("one\n\ntwo\n", "two", "unnamed/1"),
        ("", "no output", "unnamed/1"),
        (
            "[Errno 2] No such file or directory: '/a/b/x.toml'",
            "[Errno 2] No such file or directory: '<path>/x.toml'",
            "Errno 2/1",
        ),
    ],
)
def test_the_template_is_what_the_failure_says(text: str, template: str, family: str) -> None:
    made = print_of(text)
    assert (made.template, made.family) == (template, family)


def test_a_stated_reason_comes_before_any_output() -> None:
    assert print_of(PYTHON, reason="PATCH_FAILED").template == "PATCH_FAILED"


def test_standard_error_speaks_before_standard_output() -> None:
    assert print_of("KeyError: 'a'", stdout="ValueError: b").template == "KeyError: 'a'"


@pytest.mark.parametrize("name", ["text", "stdout", "reason"])
def test_only_the_end_of_a_long_text_is_read(name: str) -> None:
    begin, end = "TypeError: begin", "KeyError: 'end'"
    long: dict[str, Any] = {name: f"{begin}\n{'x ' * 40_000}\n{end}"}
    assert print_of(**long).template == end


def test_of_a_record_two_thousand_characters_are_read() -> None:
    told = [
        print_of(reason=f'{{"message": "{"x " * words}{end}"}}').fingerprint
        for words, end in ((999, "ab"), (999, "cd"), (1000, "ab"), (1000, "cd"))
    ]
    assert told[0] != told[1] != told[2] == told[3]


def test_only_the_last_lines_and_the_beginning_of_each_are_read() -> None:
    lines = "x\n" * 1999
    assert print_of(f"TypeError: first\n{lines}KeyError: 'last'").template == "KeyError: 'last'"
    assert print_of(f"TypeError: first\n{lines}").template == "TypeError: first"
    assert print_of(f"TypeError: first\n{lines}x").template == "x"
    assert print_of("x " * 2100 + "error\nfine").template == "fine"


def test_a_directory_of_ours_is_no_part_of_a_failure_whatever_it_is_called() -> None:
    one, other = (
        print_of(f"cannot write in {place}: full", workspace=place, run_id=run_id)
        for run_id, place in (("alice", "/srv/jobs of alice/one"), ("bob", "/srv/jobs of bob/two"))
    )
    assert one.template == other.template


def test_a_family_is_the_exception_rather_than_the_code_it_carries() -> None:
    assert print_of("OSError: [Errno 28] it is full").family == "OSError/1"
    assert print_of("it is full: HTTP 507").family == "HTTP 507/1"


def test_what_utf_8_cannot_carry_is_one_question_mark_in_the_identity() -> None:
    identity = hashlib.sha256(b"fp-1|1|boom ?x").hexdigest()[:16]
    assert print_of("boom \udc80x").fingerprint == f"fp-1:{identity}"


def test_standard_output_speaks_when_standard_error_is_silent() -> None:
    assert print_of("", stdout=PYTHON).template == "KeyError: 'phase_id'"


ALIKE = [
    ("2025-01-02 03:04:05,678 ERROR boom at step 3", "[Mar  1 10:11:12] ERROR: boom at step 44"),
    ("drain[812]: boom after 3m28s", "drain[9]: boom after 64.986 seconds"),
    ("boom in /tmp/a/b.py", "boom in C:\\Users\\ci\\b.py"),
    ("boom in ./a/b.py:12", "boom in src/c/d.py:9"),
    ("boom at 0xdeadbeef", "boom at 0x7f00"),
    ("boom for 5a0c2b1e-aaaa-4bbb-8ccc-0123456789ab", "boom for 0a1b2c3d4e5f"),
    ("boom at 10.1.2.3:8080", "boom at node7.example.net:9090"),
    ("boom, wrote 12 KiB", "boom, wrote 3.5 MB"),
    ("boom, used 1,951,317 of 12", "boom, used 8 of 1.200.000"),
    ("boom at https://a.example/x?y=1", "boom at http://localhost:8000/runs/9"),
    ("request req_0mQRjRmNQAyJe32x93KwV died", "request req_0kGrAmLcEAAqWW3tbuzQq died"),
    ("boom \x1b[1;31mError\x1b[0m here", "boom Error here"),
]


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_the_same_failure_elsewhere_is_the_same(one: str, other: str) -> None:
    assert print_of(one).template == print_of(other).template
    assert print_of(one).fingerprint == print_of(other).fingerprint


APART = [
    ("HTTP 404 from it", "HTTP 500 from it"),
    ("Error code: 400 - bad", "Error code: 429 - bad"),
    ("503 Service Unavailable", "504 Gateway Timeout"),
    ("[Errno 13] it", "[Errno 28] it"),
    ("[WinError 10061] it", "[WinError 10054] it"),
    ("E0308 mismatched", "E0432 mismatched"),
    ("error TS2322: it", "error TS2345: it"),
    ("KeyError: 'phase_id'", "KeyError: 'tier_id'"),
    ("No module named 'anthropic'", "No module named 'structlog'"),
    ("No such file: /a/one.toml", "No such file: /a/two.toml"),
    ("no version torch==9.9.9", "no version torch==9.9.8"),
    ("exited with code 3", "exited with code 4"),
]


@pytest.mark.parametrize(("one", "other"), APART)
def test_near_misses_stay_apart(one: str, other: str) -> None:
    assert print_of(one).fingerprint != print_of(other).fingerprint


@pytest.mark.parametrize(
    ("exit_code", "signal", "exit_class"),
    [
        (0, None, "0"),
        (1, None, "1"),
        (2, None, "2"),
        (126, None, "126"),
        (127, None, "127"),
        (3, None, "other"),
        (255, None, "other"),
        (None, None, "other"),
        (128, None, "other"),
        (137, None, "signal 9"),
        (143, None, "signal 15"),
        (-11, None, "signal 11"),
        (None, 9, "signal 9"),
    ],
)
def test_the_exit_class_is_part_of_the_identity(
    exit_code: int | None, signal: int | None, exit_class: str
) -> None:
    made = print_of("boom", exit_code=exit_code, signal=signal)
    assert made.exit_class == exit_class
    identity = f"fp-1|{exit_class}|boom".encode()
    assert made.fingerprint == f"fp-1:{hashlib.sha256(identity).hexdigest()[:16]}"


def test_a_timeout_is_the_run_s_own() -> None:
    one = print_of("boom", ended="timed_out", run_id="r-1", phase_id="a")
    same_run = print_of("other", ended="timed_out", run_id="r-1", phase_id="b")
    assert one.fingerprint == same_run.fingerprint
    assert one.fingerprint != print_of("boom", ended="timed_out", run_id="r-2").fingerprint
    assert one.exit_class == "timeout"


def test_timeouts_of_runs_with_long_ids_stay_apart() -> None:
    one, other = (print_of(ended="timed_out", run_id="r" * 511 + end) for end in "ab")
    assert one.fingerprint != other.fingerprint
    assert len(one.template) == 500


def test_a_success_has_no_fingerprint_and_no_error() -> None:
    outcome = Outcome(ended="exited", succeeded=True, final_state="COMPLETE", stderr="Error: x")
    assert plain.fingerprint(outcome) is None
    assert plain.error_text(outcome) is None


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (Outcome(ended="exited", succeeded=False, final_state="FAILED", reason="a\nb"), "a\nb"),
        (
            Outcome(ended="exited", succeeded=False, final_state="FAILED", stderr=PYTHON),
            "KeyError: 'phase_id'",
        ),
        (
            Outcome(ended="timed_out", succeeded=False, final_state="FAILED"),
            "timed out: the attempt ran into its deadline",
        ),
        (
            Outcome(
                ended="exited",
                succeeded=False,
                final_state="FAILED",
                exit_code=3,
                stored_reason="an older failure's",
            ),
            "exit code 3 without a word",
        ),
        (
            Outcome(ended="exited", succeeded=False, final_state="FAILED", signal=9),
            "ended by signal 9 without a word",
        ),
        (Outcome(ended="lost", succeeded=False, final_state="FAILED"), "lost without a word"),
    ],
)
def test_the_error_text_is_the_failure_s_own_word(outcome: Outcome, said: str) -> None:
    assert plain.error_text(outcome) == said


words = st.text(ascii_lowercase, min_size=3, max_size=8)
messages = st.lists(words, min_size=1, max_size=6).map(lambda parts: "Boom: " + " ".join(parts))
stamps = st.datetimes(min_value=datetime.fromisoformat("2000-01-01")).map(
    lambda when: when.strftime("[%Y-%m-%d %H:%M:%S] ERROR: ")
)
ids = st.from_regex(r"[a-z]{2,6}-[a-z0-9]{1,6}", fullmatch=True)


@given(message=messages, stamp=stamps, colour=st.integers(30, 37), end=st.sampled_from("\n\r"))
def test_stamps_colours_and_line_ends_change_nothing(
    message: str, stamp: str, colour: int, end: str
) -> None:
    noisy = f"{stamp}\x1b[1;{colour}m{message}\x1b[0m{end}\n"
    assert print_of(noisy).fingerprint == print_of(message).fingerprint


@given(message=messages, runs=st.tuples(ids, ids), phases=st.tuples(ids, ids))
def test_renaming_run_and_phase_changes_nothing(
    message: str, runs: tuple[str, str], phases: tuple[str, str]
) -> None:
    one, other = (
        print_of(f"[{phase}] {message} in {run}", run_id=run, phase_id=phase)
        for run, phase in zip(runs, phases, strict=True)
    )
    assert one.fingerprint == other.fingerprint


@given(message=messages, places=st.tuples(ids, ids), line=st.integers(1, 9999))
def test_other_directories_and_lines_change_nothing(
    message: str, places: tuple[str, str], line: int
) -> None:
    one, other = (
        print_of(f"{message} at {root}/src/a.py:{line}", workspace=root)
        for root in (f"/srv/{place}" for place in places)
    )
    assert one.fingerprint == other.fingerprint


@given(text=st.text(max_size=300), reason=st.none() | st.text(max_size=300))
def test_any_text_gives_one_bounded_answer(text: str, reason: str | None) -> None:
    made = print_of(text, reason=reason)
    assert made == print_of(text, reason=reason)
    assert 0 < len(made.template) <= 500
    assert len(made.fingerprint) == len("fp-1:") + 16


@given(texts=st.lists(messages, min_size=2, max_size=6, unique=True))
def test_the_order_of_failures_never_matters(texts: list[str]) -> None:
    forward = {text: print_of(text) for text in texts}
    assert forward == {text: print_of(text) for text in reversed(texts)}
