"""Estimates and recorded calibrations are taken again: what was made up is found."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import pytest

from engine.cli.context import ids, writing
from engine.events import AnyEvent, AttemptEstimated, CalibrationProposed
from engine.store.command import Command, just
from tests.program import runoff


@pytest.fixture
def drained(tmp_path: Path) -> Path:
    """A few phases drained with estimates, by a script."""
    (tmp_path / "s.json").write_text('[{"usage": [{"output_tokens": 700}]}]')
    assert runoff(tmp_path, "seed").returncode == 0
    drain = ("drain", "--script", "s.json", "--virtual-time", "--batch-size", "4")
    assert runoff(tmp_path, *drain).returncode == 4
    return tmp_path


def append(folder: Path, event: AnyEvent) -> None:
    async def work() -> None:
        async with writing(f"sqlite:///{folder}/b.db", "test") as (_, recorder):
            await recorder.submit(Command(ids()("cmd"), "test", b"", just(event)))

    anyio.run(work)


def audited(folder: Path) -> tuple[int, list[tuple[str, str]]]:
    found = runoff(folder, "audit", "--level", "decisions", "--json")
    told = json.loads(found.stdout)
    return found.returncode, [(each["what"], each["type"]) for each in told["differences"]]


def proposed(folder: Path, **more: object) -> CalibrationProposed:
    told = json.loads(runoff(folder, "calibrate", "--json").stdout)
    fields: dict[str, object] = {
        "position": told["log"]["position"],
        "hash": told["log"]["hash"],
        "input_sha256": told["input_sha256"],
        "formula_version": "1",
        "coefficient_version": "1",
        "min_samples": 5,
        "confidence_threshold": 0.7,
        "samples": told["totals"]["read"],
        "groups": len(told["groups"]),
        "sentence": told["sentence"],
    }
    return CalibrationProposed(**(fields | more))  # type: ignore[arg-type]


def test_what_was_estimated_and_reported_as_it_should_be_holds(drained: Path) -> None:
    assert audited(drained) == (0, [])
    append(drained, proposed(drained))
    assert runoff(drained, "calibrate", "--record", "--json").returncode == 0
    assert audited(drained) == (0, [])


def test_an_estimate_that_follows_from_nothing_is_found(drained: Path) -> None:
    made_up = AttemptEstimated(
        session_id="s",
        run_id="r",
        phase_id="p",
        attempt_id="a",
        category="docs",
        complexity="low",
        deliverables=1,
        estimated_tokens=1,
        budget_tokens=1,
        coefficient_version="1",
    )
    append(drained, made_up)
    assert audited(drained) == (6, [("unexpected", "attempt.estimated")])


@pytest.mark.parametrize("wrong", [{"hash": "00" * 32}, {"samples": 99}, {"input_sha256": "x"}])
def test_a_report_that_its_log_does_not_bear_out_is_found(
    drained: Path, wrong: dict[str, object]
) -> None:
    append(drained, proposed(drained, **wrong))
    assert audited(drained) == (6, [("differs", "calibration.proposed")])
