"""The sample backlog has the shape of a real one, and each run its part."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from engine.backlog.batch import Known
from engine.backlog.legacy import read_legacy
from engine.backlog.sample import SAMPLE_PARTS, write_sample
from engine.errors import StorageFailed, UsageProblem
from engine.events import AnyEvent, EstimateImported, PhaseRegistered, RunRegistered, UsageImported


def sample_events(folder: Path) -> list[AnyEvent]:
    write_sample(folder / "sample.db")
    found = read_legacy(folder / "sample.db", Known())
    return [event for one in found.registrations for event in one.events]


def test_every_run_of_the_sample_has_a_part(tmp_path: Path) -> None:
    runs = [e.run_id for e in sample_events(tmp_path) if isinstance(e, RunRegistered)]
    assert sorted(runs) == sorted(SAMPLE_PARTS)
    assert Counter(SAMPLE_PARTS.values())["systemic_fault"] == 6


def test_the_sample_has_the_oddities_of_a_real_backlog(tmp_path: Path) -> None:
    events = sample_events(tmp_path)
    phases = [event for event in events if isinstance(event, PhaseRegistered)]
    usage = [event for event in events if isinstance(event, UsageImported)]
    assert len(phases) == 45
    assert {"COMPLETE", "FAILED", "GATE", "QUEUED"} == {phase.state for phase in phases}
    assert sum(phase.tier_run_id is not None for phase in phases) == 1
    assert any(phase.category_raw not in {None, phase.category} for phase in phases)
    assert any(phase.complexity_raw == "SIMPLE" for phase in phases)
    assert any(phase.category is None for phase in phases)
    assert all(event.split_invented for event in usage)
    assert 0 < sum(not event.run_known for event in usage) < len(usage)
    assert all(phase.created_us for phase in phases)
    assert all(row.created_us for row in usage)


def test_the_sample_has_estimates_clean_and_truncated(tmp_path: Path) -> None:
    estimates = [e for e in sample_events(tmp_path) if isinstance(e, EstimateImported)]
    clean = Counter((e.category, e.complexity) for e in estimates if e.success and not e.truncated)
    assert clean["implementation", "medium"] >= 5
    assert any(estimate.truncated for estimate in estimates)


def test_the_first_phase_of_each_run_that_is_not_done_has_work_for_its_part(tmp_path: Path) -> None:
    phases = [e for e in sample_events(tmp_path) if isinstance(e, PhaseRegistered)]
    for run_id in SAMPLE_PARTS:
        own = [phase for phase in phases if phase.run_id == run_id and phase.state != "COMPLETE"]
        first = min(own, key=lambda phase: (phase.tier_index, phase.phase_index))
        assert first.state in {"FAILED", "QUEUED"}


def test_the_sample_is_not_written_over_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.db"
    file.write_text("mine")
    with pytest.raises(UsageProblem, match="exists already"):
        write_sample(file)
    assert file.read_text() == "mine"


def test_a_sample_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match="cannot be written"):
        write_sample(tmp_path / "none" / "sample.db")
    assert not (tmp_path / "none").exists()


def test_the_sample_leaves_no_other_file_behind(tmp_path: Path) -> None:
    write_sample(tmp_path / "sample.db")
    assert [path.name for path in tmp_path.iterdir()] == ["sample.db"]
