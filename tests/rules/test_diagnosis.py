"""What is made of an end, whole: with detectors that say what a test tells them to."""

from __future__ import annotations

from itertools import product
from typing import Any, Literal, get_args

import pytest
from msgspec.structs import replace

from engine.detect import Boundary, Detectors, Fingerprint, Outcome, ZeroYield
from engine.detect.diagnosis import (
    NOTHING_KEPT,
    Diagnosis,
    Kept,
    Streams,
    clean,
    diagnosis_of,
    outcome_of,
)
from engine.detect.port import WINDOW_CHARS_MAX, Source
from engine.events import (
    AttemptFinished,
    BoundaryDetected,
    ClockTime,
    Ending,
    Evidence,
    FailureFingerprinted,
    Stream,
    Told,
    ZeroYieldExplained,
)
from engine.events.diagnosis import Diagnosed
from tests.rules.standings import finished

PRINT = Fingerprint(fingerprint="f1", family="fam", template="words", exit_class="exit 1")
WHY = ZeroYield(reason="execution_error", detail="more", evidence="because")
Timeouts = Literal["detected", "run", "session"]


def detectors(
    fingerprint: Fingerprint | None = PRINT,
    boundaries: tuple[Boundary, ...] = (),
    zero_yield: ZeroYield | None = WHY,
    error: str | None = "it broke",
) -> Detectors:
    """A set that answers with these whatever it is asked."""
    return Detectors(
        name="d1",
        fingerprint=lambda _outcome: fingerprint,
        boundary=lambda _outcome: boundaries,
        zero_yield=lambda _outcome, _found=None: zero_yield,
        error_text=lambda _outcome: error,
    )


def end(**fields: Any) -> AttemptFinished:
    told = fields.pop("told", Told(ended="exited"))
    return finished(
        session_id="s9", run_id="r9", phase_id="p9", attempt_id="a9", told=told, **fields
    )


def of(
    finish: AttemptFinished,
    found: Detectors | None = None,
    timeouts: Timeouts = "detected",
    streams: Streams | None = None,
    known: tuple[Boundary, ...] | None = None,
) -> Diagnosis:
    return diagnosis_of(finish, streams or Streams(), found or detectors(), timeouts, known)


# What detectors may read.


def test_detectors_read_what_was_told_and_what_was_kept() -> None:
    told = Told(
        ended="timed_out",
        state="GATE",
        reason="why",
        stored_reason="older",
        declared="quota",
        declared_by="exit code",
    )
    finish = end(
        told=told,
        exit_code=3,
        signal=9,
        yield_events=4,
        lines_rejected=5,
        ending="succeeded",
        final_state="COMPLETE",
    )
    streams = Streams(Kept.of(b"out"), Kept.of(b"err"))
    assert outcome_of(finish, streams) == Outcome(
        ended="timed_out",
        succeeded=True,
        final_state="GATE",
        exit_code=3,
        signal=9,
        reason="why",
        stored_reason="older",
        stdout="out",
        stderr="err",
        yield_events=4,
        declared="quota",
        usage_lines_rejected=5,
        run_id="r9",
        phase_id="p9",
        attempt_id="a9",
    )
    silent = outcome_of(end(told=Told(ended="exited")), Streams())
    assert (silent.final_state, silent.stdout, silent.stderr) == ("FAILED", "", "")
    assert Kept(b"", "", 0) == NOTHING_KEPT


@pytest.mark.parametrize("ending", get_args(Ending))
def test_only_a_success_succeeded(ending: Ending) -> None:
    assert outcome_of(end(ending=ending), Streams()).succeeded == (ending == "succeeded")


def test_an_end_without_what_was_told_cannot_be_diagnosed() -> None:
    with pytest.raises(AssertionError, match="everything that was told"):
        outcome_of(end(told=None), Streams())


def test_the_window_is_the_end_of_what_was_kept_and_keeps_every_byte_apart() -> None:
    assert Kept.of(b"a\xffb") == Kept(b"a\xffb", "a\udcffb", 0)
    whole = b"x" + b"y" * WINDOW_CHARS_MAX
    assert Kept.of(whole) == Kept(whole, "y" * WINDOW_CHARS_MAX, 1)
    assert Kept.of(whole[1:]).window_start == 0


# The fingerprint, and how timeouts are told apart.


def printed(identity: str) -> FailureFingerprinted:
    return FailureFingerprinted(
        session_id="s9",
        run_id="r9",
        phase_id="p9",
        attempt_id="a9",
        detector="d1",
        fingerprint=identity,
        family="fam",
        template="words",
        exit_class="exit 1",
        seen_before=0,
    )


def test_a_failure_has_the_identity_that_was_detected_and_a_timeout_that_of_the_policy() -> None:
    of_timeouts = {"detected": "f1", "run": "d1:timeout:r9", "session": "d1:timeout"}
    for ending, timeouts in product(get_args(Ending), get_args(Timeouts)):
        found = of(end(ending=ending), timeouts=timeouts).fingerprinted
        expected = None
        if ending in ("failed", "broke"):
            expected = printed("f1")
        elif ending == "timed_out":
            expected = printed(of_timeouts[timeouts])
        assert found == expected, (ending, timeouts)


@pytest.mark.parametrize("ending", ["failed", "timed_out"])
def test_without_a_detected_fingerprint_there_is_none(ending: Ending) -> None:
    for timeouts in get_args(Timeouts):
        assert of(end(ending=ending), detectors(fingerprint=None), timeouts).fingerprinted is None


# The failure's own text.


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (None, None),
        ("", None),
        ("it broke", "it broke"),
        ("a\udcffb", "a?b"),
        ("x" * 2000, "x" * 2000),
        ("x" * 2001, "x" * 2000),
    ],
)
def test_an_error_is_clean_and_bounded(said: str | None, error: str | None) -> None:
    assert of(end(), detectors(error=said)).error == error
    assert of(end(ending="succeeded"), detectors(error=said)).error is None


def test_whatever_detectors_say_is_clean() -> None:
    dirty = Fingerprint(
        fingerprint="f\udc80", family="g\udc80", template="h\udc80", exit_class="exit 1"
    )
    found = of(end(), detectors(fingerprint=dirty)).fingerprinted
    assert found is not None
    assert (found.fingerprint, found.family, found.template) == ("f?", "g?", "h?")
    assert clean("größer\ud800") == "größer?"


# The rule set that answered.


def test_every_answer_names_its_own_rule_set_and_the_digest_of_its_file() -> None:
    sources: dict[Diagnosed, Source] = {
        "fingerprint": Source("prints", "f" * 64),
        "boundary": Source("limits", "b" * 64),
        "zero_yield": Source("silence", "z" * 64),
    }
    found = of(end(ending="timed_out"), replace(detectors(boundaries=(limit(),)), sources=sources))
    assert found.fingerprinted is not None
    assert found.zero_yield is not None
    (met,) = found.boundaries
    named = [(a.detector, a.rules_sha256) for a in (found.fingerprinted, met, found.zero_yield)]
    assert named == list(sources.values())


def test_a_timeout_is_told_apart_under_the_name_of_the_rule_set_of_fingerprints() -> None:
    sources = {"fingerprint": Source("prints", "f" * 64)}
    of_prints = replace(detectors(), sources=sources)
    found = of(end(ending="timed_out"), of_prints, "run").fingerprinted
    assert found is not None
    assert found.fingerprint == "prints:timeout:r9"


# Limits.


def limit(**fields: Any) -> Boundary:
    return replace(Boundary(kind="quota", disposition="stopped_by", pattern="p1"), **fields)


def detected(**fields: Any) -> BoundaryDetected:
    made = BoundaryDetected(
        session_id="s9",
        run_id="r9",
        phase_id="p9",
        attempt_id="a9",
        detector="d1",
        kind="quota",
        disposition="stopped_by",
        pattern="p1",
    )
    return replace(made, **fields)


def test_of_several_limits_the_strongest_is_recorded() -> None:
    first, second = limit(), limit(kind="overloaded")
    assert of(end(), detectors(boundaries=(first, second))).boundaries == (detected(),)
    assert of(end(), detectors()).boundaries == ()


def test_limits_that_are_known_are_not_looked_for_again() -> None:
    found = detectors(boundaries=(limit(kind="overloaded"),))
    assert of(end(), found, known=(limit(),)).boundaries == (detected(),)
    assert of(end(), found, known=()).boundaries == ()


def test_a_pattern_is_clean_and_a_disposition_kept() -> None:
    odd = limit(pattern="p\udc80", disposition="suspected")
    assert of(end(), detectors(boundaries=(odd,))).boundaries == (
        detected(pattern="p?", disposition="suspected"),
    )


def test_a_limit_without_a_stream_was_declared_and_its_reset_stands_in_the_reason() -> None:
    said = "retry-after: 20, resets_at: 2026-11-26T03:00:00Z"
    told = Told(ended="exited", declared_by="result file", reason=said)
    (found,) = of(end(told=told), detectors(boundaries=(limit(),))).boundaries
    assert found == detected(
        declared="result file", resets_in_ms=20_000, resets_at_us=1_795_662_000_000_000
    )
    told = Told(ended="exited", reason="resets 3:05pm (UTC)")
    (clock,) = of(end(told=told), detectors(boundaries=(limit(),))).boundaries
    assert clock == detected(resets_clock=ClockTime(minute=15 * 60 + 5, zone="UTC"))
    (silent,) = of(end(), detectors(boundaries=(limit(),))).boundaries
    assert (silent.declared, silent.resets_in_ms, silent.resets_at_us) == (None, None, None)


TEXT = b"g\xc3\xbcten \xff 429 quota exceeded, try again in 7s\n"
HIT = TEXT.decode(errors="surrogateescape").index("429")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_evidence_stands_in_its_stream_at_the_very_bytes(
    stream: Literal["stdout", "stderr"],
) -> None:
    kept = Kept.of(TEXT)
    other = Kept.of(b"wait 99 hours")
    streams = Streams(kept, other) if stream == "stdout" else Streams(other, kept)
    digests = {"stdout": Stream(digest="d-out"), "stderr": Stream(digest="d-err")}
    told = Told(ended="exited", declared_by="not this one", reason="try again in 5 days")
    hit = limit(stream=stream, start=HIT, end=HIT + 9)
    (found,) = of(
        end(told=told, **digests), detectors(boundaries=(hit,)), streams=streams
    ).boundaries
    start = TEXT.index(b"429")
    assert found == detected(
        declared=None,
        resets_in_ms=7000,
        evidence=Evidence(
            stream=stream,
            digest=digests[stream].digest or "",
            byte_start=start,
            byte_end=start + 9,
            excerpt="429 quota",
        ),
    )


def test_evidence_of_more_bytes_than_characters_is_as_long_as_its_bytes() -> None:
    data = "è límite excedido ✓ then more".encode()
    hit = limit(stream="stderr", start=2, end=19)
    streams = Streams(stderr=Kept.of(data))
    (found,) = of(
        end(stderr=Stream(digest="d")), detectors(boundaries=(hit,)), streams=streams
    ).boundaries
    assert found.evidence is not None
    assert found.evidence.excerpt == "límite excedido ✓"
    told = data[found.evidence.byte_start : found.evidence.byte_end]
    assert told.decode() == "límite excedido ✓"


def test_evidence_in_a_window_stands_where_the_window_begins() -> None:
    data = b"z" * 10 + b"y" * (WINDOW_CHARS_MAX - 3) + b"429"
    at = WINDOW_CHARS_MAX - 3
    streams = Streams(stderr=Kept.of(data))
    hit = limit(stream="stderr", start=at, end=at + 3)
    finish = end(stderr=Stream(digest="d"))
    (found,) = of(finish, detectors(boundaries=(hit,)), streams=streams).boundaries
    assert found.evidence == Evidence(
        stream="stderr",
        digest="d",
        byte_start=len(data) - 3,
        byte_end=len(data),
        excerpt="429",
    )


def test_output_that_was_not_stored_is_no_evidence() -> None:
    hit = limit(stream="stderr", start=0, end=3)
    streams = Streams(stderr=Kept.of(b"429 try again in 7s"))
    (found,) = of(end(), detectors(boundaries=(hit,)), streams=streams).boundaries
    assert found == detected(evidence=None, resets_in_ms=7000)


def test_an_excerpt_is_bounded_and_shows_broken_bytes_as_such() -> None:
    data = b"\xff" + b"x" * 300
    hit = limit(stream="stderr", start=0, end=301)
    finish = end(stderr=Stream(digest="d"))
    streams = Streams(stderr=Kept.of(data))
    (found,) = of(finish, detectors(boundaries=(hit,)), streams=streams).boundaries
    assert found.evidence is not None
    assert found.evidence.excerpt == "\ufffd" + "x" * 199
    assert (found.evidence.byte_start, found.evidence.byte_end) == (0, 301)


@pytest.mark.parametrize(
    ("before", "behind", "resets_in_ms"),
    [
        (0, None, 5000),  # right before the evidence
        (183, None, 5000),  # as far before as is looked: 200 characters with the words themselves
        (184, None, None),
        (None, 0, 6000),
        (None, 1984, 6000),
        (None, 1985, None),
    ],
)
def test_a_reset_counts_only_near_its_limit(
    before: int | None, behind: int | None, resets_in_ms: int | None
) -> None:
    text = "-" * 3000 if before is None else "try again in 5s" + "-" * (before + 2)
    start = len(text)
    text += "429"
    text += "-" * 3000 if behind is None else "-" * behind + " try again in 6s "
    hit = limit(stream="stdout", start=start, end=start + 3)
    streams = Streams(stdout=Kept.of(text.encode()))
    (found,) = of(end(), detectors(boundaries=(hit,)), streams=streams).boundaries
    assert found.resets_in_ms == resets_in_ms


# Silence.


def explained(reason: str, detail: str | None, evidence: str) -> ZeroYieldExplained:
    return ZeroYieldExplained(
        session_id="s9",
        run_id="r9",
        phase_id="p9",
        attempt_id="a9",
        detector="d1",
        reason=reason,  # type: ignore[arg-type]
        detail=detail,
        evidence=evidence,
    )


@pytest.mark.parametrize("ending", get_args(Ending))
def test_an_attempt_without_usage_is_explained_by_what_we_did_or_by_its_detector(
    ending: Ending,
) -> None:
    for usage in (0, 1, 2):
        found = of(end(ending=ending, yield_events=usage)).zero_yield
        if usage:
            assert found is None
        elif ending in ("abandoned", "orphaned"):
            assert found == explained(ending, None, f"the attempt was {ending}")
        else:
            assert found == explained("execution_error", "more", "because")


def test_an_explanation_is_clean_and_bounded() -> None:
    for detail, shown in ((None, None), ("", None), ("d\udc80", "d?")):
        why = ZeroYield(reason="unknown", detail=detail, evidence="e\udc80" + "x" * 2000)
        found = of(end(), detectors(zero_yield=why)).zero_yield
        assert found == explained("unknown", shown, "e?" + "x" * 1998)


def test_an_explanation_is_asked_for_with_the_limits_that_were_found() -> None:
    asked: list[object] = []

    def answer(outcome: Outcome, found: tuple[Boundary, ...] | None = None, /) -> ZeroYield:
        asked.append((outcome.attempt_id, found))
        return WHY

    both = (limit(), limit(kind="overloaded"))
    of(end(), replace(detectors(boundaries=both), zero_yield=answer))
    assert asked == [("a9", both)]


def test_a_detector_that_does_not_explain_silence_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="has a reason"):
        of(end(), detectors(zero_yield=None))
