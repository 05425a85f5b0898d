"""Diagnoses taken again: what is remembered of one end is said of another only if it is alike."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from engine.audit.diagnoses import NOTHING_TO_SAY, Ahead, Diagnoses
from engine.detect.diagnosis import Diagnosis
from engine.events import AttemptFinished, Stream, Told
from engine.store.blobs import MemoryBlobs
from engine.triage.policy import POLICIES, Policy
from tests.rules.standings import finished

STANDARD, CLASSIC = POLICIES["default"], POLICIES["classic"]
BLOBS = MemoryBlobs()


def printed(text: str) -> Stream:
    data = text.encode()
    digest = BLOBS.put(data)
    return Stream(
        total_bytes=len(data), head_bytes=len(data), tail_bytes=0, digest=digest, excerpt=text
    )


WELL = finished(
    ending="succeeded",
    final_state="COMPLETE",
    exit_code=0,
    yield_events=2,
    told=Told(ended="exited", state="COMPLETE"),
    stdout=printed("the config has max tokens: 8192\n"),
)


def said(diagnoses: Diagnoses, end: AttemptFinished, of: Policy = STANDARD) -> Diagnosis:
    found = diagnoses.of(1, end, of)
    assert isinstance(found, Diagnosis)
    return found


def test_of_ends_that_are_alike_the_second_is_not_looked_at() -> None:
    diagnoses = Diagnoses(BLOBS.get)
    for attempt_id, remembered in (("a1", False), ("a2", True)):
        assert said(diagnoses, replace(WELL, attempt_id=attempt_id)) is NOTHING_TO_SAY
        assert diagnoses.remembered == remembered


@pytest.mark.parametrize(
    ("fields", "of"),
    [
        ({"yield_events": 0}, STANDARD),
        ({"ending": "failed", "exit_code": 1, "final_state": "FAILED"}, STANDARD),
        ({"stdout": printed("Error: prompt is too long: 9 tokens > 8 maximum\n")}, STANDARD),
        ({"stderr": printed("Error: prompt is too long: 9 tokens > 8 maximum\n")}, STANDARD),
        ({}, CLASSIC),
    ],
)
def test_an_end_that_differs_is_looked_at(fields: dict[str, Any], of: Policy) -> None:
    diagnoses, other = Diagnoses(BLOBS.get), replace(WELL, **fields)
    assert said(diagnoses, WELL) is NOTHING_TO_SAY
    found = said(diagnoses, other, of)
    assert not diagnoses.remembered
    assert found == said(Diagnoses(BLOBS.get), other, of)
    assert found is not NOTHING_TO_SAY


def test_limits_that_one_set_of_detectors_found_are_not_anothers() -> None:
    diagnoses, failed = Diagnoses(BLOBS.get), replace(WELL, ending="failed", exit_code=1)
    ours, theirs = said(diagnoses, failed), said(diagnoses, failed, CLASSIC)
    assert (ours.boundaries, len(theirs.boundaries)) == ((), 1)
    assert said(diagnoses, failed).boundaries == ()


@pytest.mark.parametrize(
    ("detectors", "timeouts", "taken"),
    [
        (STANDARD.detectors, STANDARD.timeout_fingerprints, True),
        (CLASSIC.detectors, STANDARD.timeout_fingerprints, False),
        (STANDARD.detectors, "session", False),
    ],
)
def test_what_another_process_found_is_taken_only_under_the_same_settings(
    detectors: str, timeouts: str, *, taken: bool
) -> None:
    known = Diagnosis("by another", None, (), None)
    ahead = Ahead(pos=1, detectors=detectors, timeouts=timeouts, found=known)
    found = said(Diagnoses(BLOBS.get, lambda _pos: ahead), WELL)
    assert (found == known) == taken


def test_what_cannot_be_read_is_not_guessed() -> None:
    silent = Diagnoses(lambda _digest: None)
    long = replace(WELL, stdout=replace(printed("x" * 600), excerpt="x" * 500))
    assert silent.of(1, long, STANDARD) == "the output that the detectors read is gone"
    untold = Diagnoses(BLOBS.get).of(1, replace(WELL, told=None), STANDARD)
    assert untold == "the log does not hold what the detectors read"
