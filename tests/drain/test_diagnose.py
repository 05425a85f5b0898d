"""From a report to the log: endings, states and evidence, row by row."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from msgspec.structs import replace

from engine.detect import detectors
from engine.detect.known_limits import KnownLimits
from engine.drain.diagnose import Diagnosed, diagnose
from engine.events import PhaseState
from engine.executors.port import (
    Assignment,
    Output,
    PhaseSheet,
    Rejected,
    Report,
    Telemetry,
    Usage,
)
from engine.store.blobs import Blobs
from engine.triage.policy import POLICIES, Policy, policy_named
from engine.triage.rules import REASON_CLASS_NAMES, reason_class

SHEET = PhaseSheet(
    run_id="r", tier_id="T", phase_id="p", phase_index=0, name="", state="QUEUED", attempt=1
)
ASSIGNMENT = Assignment(
    session_id="s", attempt_id="a", sheet=SHEET, timeout_s=1, grace_s=1, deadline_us=0
)


def of(
    report: Report | Exception,
    *,
    policy: str | Policy = "default",
    sheet: PhaseSheet = SHEET,
    adopted: bool = False,
    blobs: Blobs | None = None,
) -> Diagnosed:
    chosen = policy_named(policy) if isinstance(policy, str) else policy
    found = detectors(chosen.detectors)
    assignment, limits = replace(ASSIGNMENT, sheet=sheet), KnownLimits()
    return diagnose(report, assignment, chosen, found, blobs, adopted=adopted, limits=limits)


@pytest.mark.parametrize(
    ("report", "ending", "state"),
    [
        (Report(ended="exited", duration_ms=1, exit_code=0), "succeeded", "COMPLETE"),
        (Report(ended="exited", duration_ms=1, exit_code=1), "failed", "FAILED"),
        (Report(ended="exited", duration_ms=1, exit_code=143), "failed", "FAILED"),
        (Report(ended="exited", duration_ms=1, signal=9), "failed", "FAILED"),
        (
            Report(ended="exited", duration_ms=1, exit_code=0, claimed_success=False),
            "failed",
            "FAILED",
        ),
        (
            Report(ended="exited", duration_ms=1, exit_code=0, missing_deliverables=("x",)),
            "failed",
            "FAILED",
        ),
        (
            Report(ended="exited", duration_ms=1, exit_code=0, final_state="FAILED"),
            "failed",
            "FAILED",
        ),
        (
            Report(ended="exited", duration_ms=1, exit_code=0, final_state="GATE"),
            "succeeded",
            "GATE",
        ),
        (
            Report(ended="exited", duration_ms=1, exit_code=1, claimed_success=True),
            "failed",
            "FAILED",
        ),
        (Report(ended="timed_out", duration_ms=1, exit_code=0), "timed_out", "FAILED"),
        (Report(ended="abandoned", duration_ms=1), "abandoned", "QUEUED"),
        (Report(ended="lost", duration_ms=1), "broke", "FAILED"),
        (KeyError("a bug"), "broke", "FAILED"),
    ],
)
def test_an_ending_is_what_was_proved(report: Report | Exception, ending: str, state: str) -> None:
    finished = of(report).finished
    assert (finished.ending, finished.final_state) == (ending, state)


def test_only_an_attempt_of_a_dead_engine_is_orphaned() -> None:
    finished = of(Report(ended="lost", duration_ms=1), adopted=True).finished
    assert (finished.ending, finished.final_state) == ("orphaned", "QUEUED")


def test_the_original_took_exit_code_143_for_a_timeout() -> None:
    report = Report(ended="exited", duration_ms=1, exit_code=143)
    assert of(report, policy="classic").finished.ending == "timed_out"


def test_what_the_original_took_for_success_is_no_timeout() -> None:
    report = Report(ended="exited", duration_ms=1, exit_code=143, final_state="COMPLETE")
    assert of(report, policy="classic").finished.ending == "succeeded"


@pytest.mark.parametrize("policy", POLICIES)
def test_a_phase_that_ran_into_its_deadline_is_of_the_class_that_goes_last(policy: str) -> None:
    error = of(Report(ended="timed_out", duration_ms=1), policy=policy).finished.error
    assert REASON_CLASS_NAMES[reason_class(error)] == "timeout"


def test_a_signal_is_a_negative_code_to_a_policy_that_knows_timeouts_by_code() -> None:
    policy = replace(policy_named("classic"), timeout_exit_codes=(-1, 143))
    hung_up = Report(ended="exited", duration_ms=1, signal=1)
    killed = Report(ended="exited", duration_ms=1, signal=9)
    assert of(hung_up, policy=policy).finished.ending == "timed_out"
    assert of(killed, policy=policy).finished.ending == "failed"


@pytest.mark.parametrize(
    ("report", "policy", "error"),
    [
        (Report(ended="exited", duration_ms=1, exit_code=2), "classic", "Patch failed before"),
        (
            Report(ended="exited", duration_ms=1, exit_code=2),
            "default",
            "exit code 2 without a word",
        ),
        (
            Report(ended="exited", duration_ms=1, exit_code=2, clears_reason=True),
            "classic",
            "subprocess exit 2 (stderr: /logs/r__p.stderr.txt)",
        ),
        (Report(ended="exited", duration_ms=1, exit_code=2, reason="new"), "classic", "new"),
    ],
)
def test_only_the_original_took_an_older_reason_for_its_own(
    report: Report, policy: str, error: str
) -> None:
    sheet = replace(SHEET, last_failure_reason="Patch failed before")
    assert of(report, policy=policy, sheet=sheet).finished.error == error


def test_an_attempt_without_usage_has_one_reason_and_one_with_usage_none() -> None:
    silent = of(Report(ended="exited", duration_ms=1, exit_code=0))
    assert silent.diagnosis.zero_yield is not None
    assert silent.diagnosis.zero_yield.reason == "success_no_llm_calls"
    usage = Telemetry(usage=(Usage(line=1, source="file", output_tokens=7),), lines_read=1)
    spoke = of(Report(ended="exited", duration_ms=1, exit_code=0, telemetry=usage))
    assert spoke.diagnosis.zero_yield is None
    assert (spoke.finished.yield_events, spoke.finished.tokens) == (1, 7)


@pytest.mark.parametrize("before", [b"", b"\xff\xfe \xf0\x9f\x98\x80 ", "größer\n".encode() * 9])
def test_evidence_points_at_the_very_bytes(before: bytes, tmp_path: Path) -> None:
    said = b'{"error":{"code":"context_length_exceeded","message":"prompt is too long"}}'
    stderr = Output.of(before + b"\n" + said + b"\n")
    report = Report(ended="exited", duration_ms=1, exit_code=1, stderr=stderr)
    found = of(report, blobs=Blobs(tmp_path))
    (boundary,) = found.diagnosis.boundaries
    evidence = boundary.evidence
    assert evidence is not None
    stored = Blobs(tmp_path).kept(found.finished.stderr)
    assert stored is not None
    assert hashlib.sha256(stored).hexdigest() == evidence.digest
    span = stored[evidence.byte_start : evidence.byte_end]
    assert span.decode(errors="replace").startswith(evidence.excerpt)
    assert span in said
    assert boundary.kind == "context_window"


@pytest.mark.parametrize(
    ("said", "has_blob"),
    [
        (b"", False),
        (b"x" * 500, False),
        ("größer".encode() * 60, False),
        (b"x" * 501, True),
        (b"\xff not text", True),
        (b"x" * 499 + "ö".encode(), True),
    ],
)
def test_little_output_stands_whole_in_the_log(said: bytes, has_blob: bool, tmp_path: Path) -> None:
    report = Report(ended="exited", duration_ms=1, exit_code=1, stdout=Output.of(said))
    stdout = of(report, blobs=Blobs(tmp_path)).finished.stdout
    assert any(tmp_path.iterdir()) is has_blob
    assert stdout.digest == (hashlib.sha256(said).hexdigest() if said else None)
    assert (stdout.whole is None) is (has_blob or not said)
    assert Blobs(tmp_path).kept(stdout) == (said or None)


STATES_AT_ZERO = {
    None: ("succeeded", "COMPLETE"),
    "COMPLETE": ("succeeded", "COMPLETE"),
    "GATE": ("succeeded", "GATE"),
    "CI_RUNNING": ("succeeded", "CI_RUNNING"),
    "SKIPPED": ("succeeded", "SKIPPED"),
    "QUEUED": ("failed", "QUEUED"),
    "FAILED": ("failed", "FAILED"),
    "EXECUTING": ("failed", "FAILED"),
}
STATES_AT_ONE = {
    **dict.fromkeys(STATES_AT_ZERO, ("failed", "FAILED")),
    "COMPLETE": ("succeeded", "COMPLETE"),
    "QUEUED": ("failed", "QUEUED"),
    "SKIPPED": ("failed", "SKIPPED"),
}


@pytest.mark.parametrize("state", STATES_AT_ZERO)
def test_every_state_that_a_child_may_tell_with_either_exit_code(state: PhaseState | None) -> None:
    for code, due in ((0, STATES_AT_ZERO), (1, STATES_AT_ONE)):
        report = Report(ended="exited", duration_ms=1, exit_code=code, final_state=state)
        finished = of(report).finished
        assert (finished.ending, finished.final_state) == due[state]


def test_an_end_counts_what_was_used_and_what_could_not_be_read() -> None:
    rejected = (
        Rejected(why="not_json", count=3, first_line=1, excerpt="{"),
        Rejected(why="bad_fields", count=4, first_line=9, excerpt="{}"),
    )
    usage = (
        Usage(line=1, source="file", input_tokens=100, output_tokens=20),
        Usage(line=2, source="file", input_tokens=None, output_tokens=3),
    )
    telemetry = Telemetry(usage=usage, rejected=rejected, lines_read=11, lines_other=5)
    found = of(Report(ended="exited", duration_ms=77, exit_code=0, telemetry=telemetry))
    end = found.finished
    assert (end.yield_events, end.tokens, end.lines_rejected) == (2, 123, 7)
    assert (end.lines_read, end.lines_other) == (11, 5)
    assert (end.duration_ms, end.timeout_ms) == (77, 1000)
    assert len(found.usage) == 4


def test_what_was_told_is_kept_by_its_telling_end() -> None:
    reason = "".join(chr(ord("a") + n % 26) for n in range(20_000))
    sheet = replace(SHEET, last_failure_reason=reason[::-1])
    failed = Report(ended="exited", duration_ms=1, exit_code=1, reason=reason)
    told = of(failed, sheet=sheet).finished.told
    assert told is not None
    assert (told.reason, told.stored_reason) == (reason[-16_384:], reason[::-1][:1000])
    for silent in (
        replace(failed, clears_reason=True),
        Report(ended="exited", duration_ms=1, exit_code=0),
    ):
        told = of(silent, sheet=sheet).finished.told
        assert told is not None
        assert told.stored_reason is None


def test_a_policy_may_call_a_code_a_timeout_but_what_was_told_stays_a_fact() -> None:
    told = of(Report(ended="exited", duration_ms=1, exit_code=143), policy="classic").finished.told
    assert told is not None
    assert told.ended == "exited"


def test_missing_deliverables_are_the_reason_only_where_none_was_given() -> None:
    missing = tuple(f"f{n}" for n in range(7))
    report = Report(ended="exited", duration_ms=1, exit_code=0, missing_deliverables=missing)
    for said, due in ((None, "missing deliverables: f0, f1, f2, f3, f4"), ("it broke", "it broke")):
        told = of(replace(report, reason=said)).finished.told
        assert told is not None
        assert told.reason == due


@pytest.mark.parametrize(
    "failed",
    [
        Report(ended="exited", duration_ms=1, exit_code=1),
        Report(ended="exited", duration_ms=1, signal=11),
        Report(ended="exited", duration_ms=1, exit_code=0, claimed_success=False),
        Report(ended="exited", duration_ms=1, exit_code=0, final_state="FAILED"),
    ],
    ids=["exit", "signal", "claim", "state"],
)
def test_files_that_a_failure_left_unwritten_do_not_hide_what_failed(failed: Report) -> None:
    errors, fingerprints = list[str | None](), set[str]()
    for words in ("ValueError: bad thing", "ConnectionError: database is gone"):
        told = replace(failed, missing_deliverables=("a.py",), stderr=Output.of(words.encode()))
        found = of(told)
        assert found.diagnosis.fingerprinted is not None
        errors.append(found.finished.error)
        fingerprints.add(found.diagnosis.fingerprinted.fingerprint)
        assert found.finished.missing_deliverables == ("a.py",)
    assert errors == ["ValueError: bad thing", "ConnectionError: database is gone"]
    assert len(fingerprints) == 2


def test_a_stream_is_kept_by_head_and_tail_with_its_true_length(tmp_path: Path) -> None:
    data = bytes(ord("a") + n % 26 for n in range(900))
    output = Output(total_bytes=5000, head_bytes=600, tail_bytes=300, data=data)
    report = Report(ended="exited", duration_ms=1, exit_code=0, stdout=output)
    stream = of(report, blobs=Blobs(tmp_path)).finished.stdout
    assert (stream.total_bytes, stream.head_bytes, stream.tail_bytes) == (5000, 600, 300)
    assert stream.excerpt == data[-500:].decode()
    assert stream.digest == hashlib.sha256(data).hexdigest()
    cut = replace(report, stdout=replace(output, head_bytes=2000, tail_bytes=0))
    stream = of(cut).finished.stdout
    assert (stream.head_bytes, stream.tail_bytes, stream.digest) == (900, 0, None)
