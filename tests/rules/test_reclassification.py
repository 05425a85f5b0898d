"""What another rule set says of an old attempt: where it differs, of what it classifies."""

from __future__ import annotations

from itertools import combinations, product
from typing import Any

import pytest
from msgspec.structs import replace

from engine.detect import Boundary, Detectors, Fingerprint, RuleSet, ZeroYield
from engine.detect.diagnosis import Kept, Streams
from engine.detect.port import Source
from engine.detect.reclassification import Asked, last_said, reclassified
from engine.events import (
    AnyEvent,
    Classified,
    Diagnosed,
    Evidence,
    Reclassified,
    Stream,
    TimeoutFingerprints,
    Told,
)
from tests.rules.standings import finished

KINDS: tuple[Diagnosed, ...] = ("fingerprint", "boundary", "zero_yield")
END = finished(told=Told(ended="exited"), ending="failed", yield_events=0)
PRINT = Fingerprint(fingerprint="f2", family="fam", template="words", exit_class="1")
LIMIT = Boundary(kind="quota", disposition="stopped_by", pattern="p")
SAID: dict[Diagnosed, Classified] = {
    "fingerprint": Classified(detector="fp", name="f2", detail="fam", text="words"),
    "boundary": Classified(detector="new", name="quota", detail="stopped_by", text="p"),
    "zero_yield": Classified(detector="new", name="provider_limit", detail="d", text="because"),
}


def rule_set(kinds: tuple[Diagnosed, ...] = KINDS, *, sees: bool = True) -> RuleSet:
    def limits(_outcome: object) -> tuple[Boundary, ...]:
        return (LIMIT,) if sees else ()

    why = ZeroYield(reason="provider_limit", detail="d", evidence="because")
    detectors = Detectors(
        name="new",
        fingerprint=lambda _outcome: PRINT if sees else None,
        boundary=limits,
        zero_yield=lambda _outcome, _found=None: why,
        error_text=lambda _outcome: None,
        sources={"fingerprint": Source("fp", "d" * 64)},
    )
    return RuleSet("new", kinds, detectors)


def asked(kinds: tuple[Diagnosed, ...] = KINDS, *, sees: bool = True) -> Asked:
    return Asked(rule_set(kinds, sees=sees), "detected", "me", "why")


@pytest.mark.parametrize("kinds", [k for n in range(4) for k in product(KINDS, repeat=n)], ids=str)
def test_a_set_speaks_only_of_what_it_classifies(kinds: tuple[Diagnosed, ...]) -> None:
    found = reclassified(END, Streams(), {}, asked(kinds))
    assert [(each.what, each.before, each.after) for each in found] == [
        (what, None, SAID[what]) for what in kinds
    ]


@pytest.mark.parametrize("kinds", [k for n in range(3) for k in combinations(KINDS, n)], ids=str)
def test_limits_are_sought_only_for_what_needs_them(kinds: tuple[Diagnosed, ...]) -> None:
    looked: list[object] = []

    def limits(outcome: object) -> tuple[Boundary, ...]:
        looked.append(outcome)
        return (LIMIT,)

    detectors = replace(rule_set(kinds).detectors, boundary=limits)
    reclassified(
        END, Streams(), {}, Asked(RuleSet("new", kinds, detectors), "detected", "me", "why")
    )
    assert bool(looked) == bool({"boundary", "zero_yield"} & set(kinds))


@pytest.mark.parametrize("what", KINDS)
@pytest.mark.parametrize("field", ["name", "detail", "text", "detector"])
def test_only_another_name_or_detail_is_another_word(what: Diagnosed, field: str) -> None:
    changed: dict[str, Any] = {field: "other"}
    known: dict[Diagnosed, Classified] = {**SAID, what: replace(SAID[what], **changed)}
    found = reclassified(END, Streams(), known, asked())
    expected = [(what, known[what], SAID[what])] if field in ("name", "detail") else []
    assert [(each.what, each.before, each.after) for each in found] == expected


def test_what_is_no_longer_seen_is_taken_back() -> None:
    found = reclassified(END, Streams(), SAID, asked(sees=False))
    assert [(each.what, each.after) for each in found] == [
        ("fingerprint", None),
        ("boundary", None),
    ]


@pytest.mark.parametrize("sees", [True, False])
def test_asked_again_after_its_words_were_recorded_it_says_nothing(*, sees: bool) -> None:
    first: list[AnyEvent] = list(reclassified(END, Streams(), {}, asked()))
    second: list[AnyEvent] = list(reclassified(END, Streams(), last_said(first), asked(sees=sees)))
    assert bool(second) == (not sees)
    assert reclassified(END, Streams(), last_said([*first, *second]), asked(sees=sees)) == []


def test_the_words_name_the_attempt_and_who_asked() -> None:
    (first, *_) = reclassified(END, Streams(), {}, asked())
    assert isinstance(first, Reclassified)
    names = (first.session_id, first.run_id, first.phase_id, first.attempt_id)
    assert names == (END.session_id, END.run_id, END.phase_id, END.attempt_id)
    assert (first.detector, first.timeouts, first.by, first.why) == ("new", "detected", "me", "why")
    assert first.rules_sha256 == "d" * 64


@pytest.mark.parametrize(
    ("timeouts", "name"), [("detected", "f2"), ("run", "fp:timeout:r"), ("session", "fp:timeout")]
)
def test_timeouts_are_told_apart_as_it_is_asked_for(
    timeouts: TimeoutFingerprints, name: str
) -> None:
    end = replace(END, ending="timed_out", told=Told(ended="timed_out"))
    (found,) = reclassified(
        end, Streams(), {}, Asked(rule_set(("fingerprint",)), timeouts, "me", "why")
    )
    assert found.after is not None
    assert (found.timeouts, found.after.name) == (timeouts, name)


def test_a_limit_is_told_with_its_evidence() -> None:
    seen = replace(LIMIT, stream="stderr", start=1, end=4)

    def limits(_outcome: object) -> tuple[Boundary, ...]:
        return (seen,)

    detectors = replace(rule_set().detectors, boundary=limits)
    end = replace(END, stderr=Stream(digest="d"))
    streams = Streams(stderr=Kept.of(b"-abc-"))
    (found,) = reclassified(
        end, streams, {}, Asked(RuleSet("new", ("boundary",), detectors), "detected", "me", "why")
    )
    assert found.after is not None
    assert found.after.evidence == Evidence(
        stream="stderr", digest="d", byte_start=1, byte_end=4, excerpt="abc"
    )
