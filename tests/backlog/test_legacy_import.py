"""Legacy import of the rows: what becomes of them, old and odd ones too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from engine.backlog.batch import Known
from engine.backlog.legacy import LegacyImport, read_legacy
from engine.errors import RunoffError
from engine.events import (
    AnyEvent,
    Deliverable,
    EstimateImported,
    PhaseRegistered,
    RunRegistered,
    TierRegistered,
    UsageImported,
    encode,
)

Kind = TypeVar("Kind", bound=AnyEvent)
Statement = str | tuple[str, tuple[object, ...]]
Build = Callable[..., Path]

REAL = Path(__file__).parents[3] / "shared" / "data" / "autopack_legacy.db"
with_the_real_file = pytest.mark.skipif(
    not REAL.exists(), reason="the legacy database autopack_legacy.db is not at hand"
)

RUNS = "CREATE TABLE runs (id)"
TIERS = "CREATE TABLE tiers (id INTEGER PRIMARY KEY, tier_id, run_id, tier_index, name)"
PHASES = (
    "CREATE TABLE phases (id INTEGER PRIMARY KEY, run_id, phase_id, tier_id, phase_index, state,"
    " task_category, complexity, scope)"
)
RUN_R = "INSERT INTO runs VALUES ('r')"


def phase_row(**cells: object) -> Statement:
    row = {"run_id": "r", "phase_id": "p", "state": "QUEUED", **cells}
    marks = ", ".join("?" * len(row))
    return f"INSERT INTO phases ({', '.join(row)}) VALUES ({marks})", tuple(row.values())


def events_of(found: LegacyImport, kind: type[Kind]) -> list[Kind]:
    return [e for one in found.registrations for e in one.events if isinstance(e, kind)]


def taken(path: Path) -> LegacyImport:
    return read_legacy(path, Known())


def findings_of(found: LegacyImport) -> dict[str, int]:
    return {finding.what: finding.count for finding in found.finished.findings}


def known_after(*imports: LegacyImport) -> Known:
    def pairs(kind: type[TierRegistered | PhaseRegistered]) -> frozenset[tuple[str, str]]:
        return frozenset(
            (e.run_id, e.tier_id if isinstance(e, TierRegistered) else e.phase_id)
            for found in imports
            for e in events_of(found, kind)
        )

    def digests(kind: type[UsageImported | EstimateImported]) -> frozenset[str]:
        return frozenset(e.row_digest for found in imports for e in events_of(found, kind))

    return Known(
        runs=frozenset(e.run_id for found in imports for e in events_of(found, RunRegistered)),
        tiers=pairs(TierRegistered),
        phases=pairs(PhaseRegistered),
        usage_rows=digests(UsageImported),
        estimate_rows=digests(EstimateImported),
    )


@with_the_real_file
def test_the_real_backlog_is_taken_in_whole() -> None:
    found = taken(REAL)
    done = found.finished
    assert (done.runs, done.tiers, done.phases) == (70, 200, 456)
    assert (done.usage_rows, done.estimate_rows, done.already_known) == (1371, 28, 0)
    states = Counter(phase.state for phase in events_of(found, PhaseRegistered))
    assert states == {"FAILED": 207, "COMPLETE": 141, "QUEUED": 107, "GATE": 1}
    assert sum(not row.run_known for row in events_of(found, UsageImported)) == 303
    assert sum(p.tier_run_id is not None for p in events_of(found, PhaseRegistered)) == 10
    assert findings_of(found)["phases sit in a tier of another run"] == 10


@with_the_real_file
def test_the_real_spellings_are_all_familiar_and_fewer() -> None:
    phases = events_of(taken(REAL), PhaseRegistered)
    assert len({phase.category_raw for phase in phases} - {None}) == 15
    assert {phase.category for phase in phases} - {None} == {
        "backend",
        "bugfix",
        "configuration",
        "database",
        "deployment",
        "docs",
        "frontend",
        "implementation",
        "integration",
        "refactoring",
        "tests",
    }
    assert {phase.complexity for phase in phases} == {"low", "medium", "high", None}
    assert not [what for what in findings_of(taken(REAL)) if "spelling" in what]


@with_the_real_file
def test_the_real_import_repeated_adds_nothing() -> None:
    again = read_legacy(REAL, known_after(taken(REAL)))
    assert again.registrations == ()
    assert again.finished.already_known == 70 + 200 + 456 + 1371 + 28


@with_the_real_file
def test_the_real_phases_come_in_the_order_of_their_table() -> None:
    found = taken(REAL)
    times = [phase.created_us for phase in events_of(found, PhaseRegistered)]
    assert None not in times
    kinds = [type(event).__name__ for one in found.registrations for event in one.events]
    assert list(dict.fromkeys(kinds)) == [
        "RunRegistered",
        "TierRegistered",
        "PhaseRegistered",
        "UsageImported",
        "EstimateImported",
    ]


def test_runs_interleave_as_their_phases_do_in_the_table(database: Build) -> None:
    path = database(
        RUNS,
        "INSERT INTO runs VALUES ('a'), ('b')",
        PHASES,
        phase_row(id=1, run_id="b", phase_id="x"),
        phase_row(id=3, run_id="b", phase_id="z"),
        phase_row(id=2, run_id="a", phase_id="y"),
    )
    assert [p.phase_id for p in events_of(taken(path), PhaseRegistered)] == ["x", "y", "z"]


def test_an_older_database_with_text_ids_and_few_columns_is_taken(database: Build) -> None:
    path = database(
        "CREATE TABLE runs (run_id TEXT PRIMARY KEY, status TEXT)",
        "INSERT INTO runs VALUES ('r', 'RUN_CREATED')",
        "CREATE TABLE tiers (id TEXT PRIMARY KEY, run_id TEXT)",
        "INSERT INTO tiers VALUES ('T1', 'r'), ('T2', 'r')",
        "CREATE TABLE phases (id TEXT PRIMARY KEY, run_id TEXT, tier_id TEXT, status TEXT,"
        " category TEXT, title TEXT)",
        "INSERT INTO phases VALUES ('p2', 'r', 'T2', 'failed', 'Testing', 'Second')",
        "INSERT INTO phases VALUES ('p1', 'r', 'T1', 'queued', NULL, NULL)",
        "INSERT INTO phases VALUES ('p3', 'r', 'T2', 'queued', NULL, NULL)",
    )
    found = taken(path)
    assert events_of(found, RunRegistered)[0].state == "RUN_CREATED"
    assert [(t.tier_id, t.tier_index) for t in events_of(found, TierRegistered)] == [
        ("T1", 0),
        ("T2", 1),
    ]
    shown = [
        (p.phase_id, p.name, p.state, p.category, p.tier_id, p.tier_index, p.phase_index)
        for p in events_of(found, PhaseRegistered)
    ]
    assert shown == [
        ("p2", "Second", "FAILED", "tests", "T2", 1, 0),
        ("p1", "p1", "QUEUED", None, "T1", 0, 0),
        ("p3", "p3", "QUEUED", None, "T2", 1, 1),
    ]


def test_two_bare_tables_are_enough(database: Build) -> None:
    path = database(
        RUNS, RUN_R, "CREATE TABLE phases (run_id, id)", "INSERT INTO phases VALUES ('r', 7)"
    )
    (phase,) = events_of(taken(path), PhaseRegistered)
    assert (phase.phase_id, phase.tier_id, phase.state) == ("7", "untiered", "SKIPPED")


def test_wrong_typed_cells_are_left_out_with_a_finding(database: Build) -> None:
    path = database(
        "CREATE TABLE runs (id, state, token_cap, created_at)",
        "INSERT INTO runs VALUES ('r', x'51ff', 'many', 'yesterday')",
        "INSERT INTO runs VALUES ('s', 5, 9e300, 1e300)",
        "INSERT INTO runs VALUES ('t', NULL, '12', 1764532371)",
        "INSERT INTO runs VALUES ('u', NULL, 12.5, '2025-11-30T19:52:51.574482')",
        "INSERT INTO runs VALUES ('v', NULL, -3, '2025-11-30 19:52:51.574482')",
        PHASES,
    )
    found = taken(path)
    shown = [
        (r.run_id, r.state, r.token_cap, r.created_us) for r in events_of(found, RunRegistered)
    ]
    assert shown == [
        ("r", "Q�", None, None),
        ("s", "5", None, None),
        ("t", "UNKNOWN", 12, 1_764_532_371_000_000),
        ("u", "UNKNOWN", None, 1_764_532_371_574_482),
        ("v", "UNKNOWN", None, 1_764_532_371_574_482),
    ]
    assert findings_of(found)["runs.token_cap is not a count, left out"] == 4
    assert findings_of(found)["runs.created is not a time, left out"] == 2


def test_text_that_is_not_utf_8_is_replaced_with_a_finding(database: Build) -> None:
    path = database(
        "CREATE TABLE runs (id TEXT, failure_reason TEXT)",
        "INSERT INTO runs VALUES ('r', CAST(x'6f68ff' AS TEXT))",
        PHASES,
    )
    found = taken(path)
    assert events_of(found, RunRegistered)[0].failure_reason == "oh�"
    assert findings_of(found) == {"runs: text that is not UTF-8, wrong bytes replaced": 1}


@pytest.mark.parametrize("bad", ["", " edge", "a\nb", "\x1b[31m", "x" * 513, None, b"\x00"])
def test_a_row_with_a_hostile_id_is_skipped_and_the_others_stay(
    database: Build, bad: object
) -> None:
    path = database(
        RUNS,
        RUN_R,
        ("INSERT INTO runs VALUES (?)", (bad,)),
        PHASES,
        phase_row(phase_id=bad),
        phase_row(run_id=bad),
        phase_row(phase_id="good"),
    )
    found = taken(path)
    assert [run.run_id for run in events_of(found, RunRegistered)] == ["r"]
    assert [phase.phase_id for phase in events_of(found, PhaseRegistered)] == ["good"]
    assert sum(findings_of(found).values()) == 3


def test_ids_that_look_dangerous_but_are_within_the_limits_are_kept(database: Build) -> None:
    odd = ["../../etc", "a/b", "<script>", "'; DROP TABLE runs; --", "日本語", "x" * 512]
    path = database(RUNS, *[("INSERT INTO runs VALUES (?)", (name,)) for name in odd], PHASES)
    assert [run.run_id for run in events_of(taken(path), RunRegistered)] == odd


def test_a_double_id_keeps_the_first_row(database: Build) -> None:
    path = database(
        RUNS,
        "INSERT INTO runs VALUES ('r'), ('r')",
        TIERS,
        "INSERT INTO tiers VALUES (1, 'T1', 'r', 0, 'first'), (2, 'T1', 'r', 1, 'second')",
        PHASES,
        phase_row(state="FAILED", tier_id=2),
        phase_row(state="COMPLETE"),
    )
    found = taken(path)
    assert [tier.name for tier in events_of(found, TierRegistered)] == ["first"]
    (phase,) = events_of(found, PhaseRegistered)
    assert (phase.state, phase.tier_id, phase.tier_index) == ("FAILED", "T1", 0)
    assert sum("first one kept" in what for what in findings_of(found)) == 3


def test_a_missing_run_and_a_missing_tier_are_told(database: Build) -> None:
    path = database(
        RUNS,
        TIERS,
        "INSERT INTO tiers VALUES (1, 'T1', 'nowhere', 0, 'n')",
        PHASES,
        phase_row(run_id="lost", tier_id=99),
    )
    found = taken(path)
    (run,) = events_of(found, RunRegistered)
    (phase,) = events_of(found, PhaseRegistered)
    assert (run.run_id, run.state) == ("lost", "UNKNOWN")
    assert (phase.tier_id, phase.tier_index) == ("99", 0)
    assert events_of(found, TierRegistered) == []
    assert set(findings_of(found)) == {
        "phases name a run that is missing, registered as UNKNOWN",
        "phases name a tier that is missing",
        "tiers name a run that is missing, row skipped",
    }


def test_a_tier_of_another_run_is_named(database: Build) -> None:
    path = database(
        RUNS,
        "INSERT INTO runs VALUES ('r'), ('other')",
        TIERS,
        "INSERT INTO tiers VALUES (1, 'T5', 'other', 5, 'n')",
        PHASES,
        phase_row(tier_id=1),
    )
    (phase,) = events_of(taken(path), PhaseRegistered)
    assert (phase.tier_id, phase.tier_index, phase.tier_run_id) == ("T5", 5, "other")


@pytest.mark.parametrize(
    ("recorded", "state", "told"),
    [
        ("QUEUED", "QUEUED", False),
        ("complete", "COMPLETE", False),
        ("CI_RUNNING", "CI_RUNNING", False),
        ("PhaseState.GATE", "GATE", False),
        ("EXECUTING", "EXECUTING", False),
        ("in progress", "EXECUTING", True),
        ("Running", "EXECUTING", True),
        ("DONE", "COMPLETE", True),
        ("wedged", "SKIPPED", True),
        (None, "SKIPPED", True),
        (3, "SKIPPED", True),
    ],
)
def test_a_state_is_kept_or_translated_with_a_finding(
    database: Build, recorded: object, state: str, told: bool
) -> None:
    found = taken(database(RUNS, RUN_R, PHASES, phase_row(state=recorded)))
    assert events_of(found, PhaseRegistered)[0].state == state
    assert bool(found.finished.findings) == told


def test_an_unknown_spelling_is_kept_and_told(database: Build) -> None:
    found = taken(
        database(RUNS, RUN_R, PHASES, phase_row(task_category="Sorcery", complexity="SIMPLE"))
    )
    (phase,) = events_of(found, PhaseRegistered)
    assert (phase.category, phase.category_raw) == ("sorcery", "Sorcery")
    assert (phase.complexity, phase.complexity_raw) == ("low", "SIMPLE")
    (finding,) = found.finished.findings
    assert (finding.count, finding.example) == (1, "Sorcery")


@pytest.mark.parametrize(
    ("scope", "paths"),
    [
        ('{"deliverables": ["a.py", "b/c.md (why)"]}', ["a.py", "b/c.md"]),
        ('{"deliverables": [{"path": "a.py", "acceptance": "x"}]}', ["a.py"]),
        ('{"deliverables": {"code": ["a.py"], "tests": ["t.py"], "docs": []}}', ["a.py", "t.py"]),
        ('{"deliverables": {"code": {"a": "a.py"}}}', ["a.py"]),
        ('{"deliverables": "a.py"}', ["a.py"]),
        ('{"deliverables": ["a.py", "a.py", "./a.py"]}', ["a.py"]),
        ('{"deliverables": ["/etc/passwd", "../x", "a dashboard", "*.py", 7, ""]}', []),
        ('{"deliverables": null}', []),
        ('{"paths": ["README.md"]}', []),
        ('"just text"', []),
        ("[1]", []),
        ("not json", []),
        ('{"deliverables": "\\ud800"}', []),
        ("[" * 100_000, []),
        ("", []),
    ],
)
def test_deliverables_are_found_in_every_shape_of_scope(
    database: Build, scope: str, paths: list[str]
) -> None:
    found = taken(database(RUNS, RUN_R, PHASES, phase_row(scope=scope)))
    (phase,) = events_of(found, PhaseRegistered)
    assert [deliverable.path for deliverable in phase.deliverables] == paths
    assert phase.scope_json == scope[: 64 * 1024 - 2]


def test_must_contain_is_taken_from_the_deliverable_or_beside_it(database: Build) -> None:
    path = database(
        RUNS,
        RUN_R,
        PHASES,
        phase_row(phase_id="a", scope='{"deliverables": [{"path": "x", "must_contain": ["f"]}]}'),
        phase_row(phase_id="b", scope='{"deliverables": ["x"], "must_contain": ["f"]}'),
        phase_row(phase_id="c", scope='{"deliverables": ["x"], "must_contain": {"x": ["f"]}}'),
        phase_row(phase_id="d", scope='{"deliverables": ["x", "y"], "must_contain": ["f"]}'),
    )
    found = taken(path)
    stated = [phase.deliverables for phase in events_of(found, PhaseRegistered)]
    assert stated[:3] == [(Deliverable(path="x", must_contain=("f",)),)] * 3
    assert stated[3] == (Deliverable(path="x"), Deliverable(path="y"))
    assert findings_of(found) == {"phases.scope.must_contain does not say of which deliverable": 1}


def test_a_phase_waits_for_earlier_ones_only(database: Build) -> None:
    path = database(
        RUNS,
        RUN_R,
        PHASES,
        phase_row(
            phase_id="a",
            phase_index=0,
            scope='{"deliverables": ["x"], "read_only_context": ["y"], "dependencies": ["b"]}',
        ),
        phase_row(
            phase_id="b",
            phase_index=1,
            scope='{"deliverables": ["y"], "read_only_context": ["x"], "dependencies": ["gone"]}',
        ),
        phase_row(phase_id="c", phase_index=2, scope='{"dependencies": ["b", "b"]}'),
        phase_row(phase_id="d", phase_index=3, scope='{"dependencies": {"libraries": ["b"]}}'),
    )
    found = taken(path)
    after = {phase.phase_id: phase.after for phase in events_of(found, PhaseRegistered)}
    assert after == {"a": (), "b": ("a",), "c": ("b",), "d": ()}
    assert findings_of(found) == {
        "phases.scope.dependencies names a later phase, left out": 1,
        "phases.scope.dependencies names no phase of the run": 1,
    }


def test_long_texts_are_cut_so_that_every_event_fits(database: Build) -> None:
    long = '{"goal": "' + "\x01" * 200_000
    path = database(
        RUNS,
        RUN_R,
        "CREATE TABLE phases (run_id, phase_id, description, name, scope, last_failure_reason)",
        ("INSERT INTO phases VALUES ('r', 'p', ?, ?, ?, ?)", (long, long, long, long)),
    )
    found = taken(path)
    (phase,) = events_of(found, PhaseRegistered)
    assert phase.goal is not None
    assert long.startswith(phase.goal)
    assert 16_000 < len(encode(phase)) < 128 * 1024
    assert sum("cut" in what for what in findings_of(found)) == 4


def test_usage_is_kept_with_and_without_its_run(database: Build) -> None:
    path = database(
        RUNS,
        RUN_R,
        PHASES,
        "CREATE TABLE llm_usage_events (id INTEGER PRIMARY KEY, run_id, provider, prompt_tokens,"
        " completion_tokens)",
        "INSERT INTO llm_usage_events VALUES (5, 'r', 'p', 40, 60), (6, NULL, NULL, '1', 'x'),"
        " (7, 'gone', 'p', 1, 1), (8, 'bad\n', 'p', 1, 1)",
    )
    found = taken(path)
    rows = events_of(found, UsageImported)
    assert [(r.source_row, r.run_id, r.total_tokens, r.run_known) for r in rows] == [
        (5, "r", 100, True),
        (6, None, 1, False),
        (7, "gone", 2, False),
    ]
    assert all(row.split_invented for row in rows)
    assert len({row.row_digest for row in rows}) == 3


def test_estimates_are_folded_and_keep_what_they_lack(database: Build) -> None:
    path = database(
        RUNS,
        RUN_R,
        PHASES,
        "CREATE TABLE token_estimation_v2_events (event_id INTEGER PRIMARY KEY, run_id, phase_id,"
        " category, complexity, success, truncated, predicted_output_tokens)",
        "INSERT INTO token_estimation_v2_events VALUES"
        " (1, 'r', 'p', 'IMPLEMENT_FEATURE', 'HIGH', 1, 0, 900),"
        " (2, 'unknown', 'p', NULL, NULL, 'true', 'maybe', NULL),"
        " (3, NULL, 'p', 'a', 'b', 1, 1, 1)",
    )
    found = taken(path)
    first, second = events_of(found, EstimateImported)
    assert (first.category, first.category_raw, first.complexity) == (
        "implementation",
        "IMPLEMENT_FEATURE",
        "high",
    )
    assert (first.success, first.truncated, first.predicted_output_tokens) == (True, False, 900)
    assert (second.run_known, second.success, second.truncated) == (False, True, None)


def test_a_grown_copy_adds_only_what_is_new(database: Build) -> None:
    usage = "CREATE TABLE llm_usage_events (id INTEGER PRIMARY KEY, run_id, prompt_tokens)"
    first = taken(
        database(
            RUNS,
            RUN_R,
            PHASES,
            phase_row(phase_id="a"),
            usage,
            "INSERT INTO llm_usage_events VALUES (1, 'r', 5), (2, 'r', 5)",
        )
    )
    path = database(
        phase_row(phase_id="b"),
        "INSERT INTO runs VALUES ('s')",
        "ALTER TABLE llm_usage_events ADD COLUMN notes",
        "INSERT INTO llm_usage_events VALUES (3, 's', 5, 'x')",
    )
    grown = read_legacy(path, known_after(first))
    assert [run.run_id for run in events_of(grown, RunRegistered)] == ["s"]
    assert [phase.phase_id for phase in events_of(grown, PhaseRegistered)] == ["b"]
    assert [row.source_row for row in events_of(grown, UsageImported)] == [3]
    assert grown.finished.already_known == 4
    assert read_legacy(path, known_after(first, grown)).registrations == ()


def test_an_import_that_stopped_halfway_goes_on_where_it_stopped(database: Build) -> None:
    path = database(RUNS, RUN_R, PHASES, phase_row(phase_id="a"), phase_row(phase_id="b"))
    whole = taken(path)
    rest = read_legacy(path, Known(runs=frozenset({"r"})))
    assert rest.registrations == whole.registrations[1:]


def test_the_closing_registration_holds_the_summary(database: Build) -> None:
    found = taken(database(RUNS, RUN_R, PHASES))
    assert found.closing.events == (found.finished,)
    assert found.finished.source == "old.db"
    assert found.finished.source_sha256 == found.source_sha256


CELLS = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.binary(max_size=12),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.sampled_from(["r", "p", "QUEUED", '{"deliverables": [', '{"deliverables": {"a": 1}}']),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(*[CELLS] * 8), max_size=4), keys=st.lists(CELLS, max_size=3))
def test_whatever_stands_in_the_cells_the_import_goes_through(
    database: Build, rows: Sequence[tuple[object, ...]], keys: list[object]
) -> None:
    names = "run_id, phase_id, tier_id, phase_index, state, task_category, complexity, scope"
    path = database(
        "DROP TABLE IF EXISTS runs",
        "DROP TABLE IF EXISTS phases",
        RUNS,
        PHASES,
        *[("INSERT INTO runs VALUES (?)", (key,)) for key in keys],
        *[(f"INSERT INTO phases ({names}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row) for row in rows],
    )
    found = taken(path)
    assert len(events_of(found, PhaseRegistered)) <= len(rows)
    assert {p.run_id for p in events_of(found, PhaseRegistered)} <= {
        run.run_id for run in events_of(found, RunRegistered)
    }


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_gives_an_import_or_one_clear_problem(
    database: Build, tmp_path: Path, data: st.DataObject
) -> None:
    whole = bytearray(
        database(
            "DROP TABLE IF EXISTS runs",
            "DROP TABLE IF EXISTS phases",
            RUNS,
            RUN_R,
            PHASES,
            *[phase_row(phase_id=f"p{at}", scope="s" * 900) for at in range(12)],
        ).read_bytes()
    )
    for at in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=6)):
        whole[at] = data.draw(st.integers(0, 255))
    broken = tmp_path / "broken.db"
    broken.write_bytes(whole[: data.draw(st.integers(1, len(whole)))])
    assert answer_to(broken) in {"broken.db", "a problem in one line"}


def answer_to(path: Path) -> str:
    try:
        return taken(path).finished.source
    except RunoffError as problem:
        told = bool(problem.remedy) and "\n" not in problem.problem
        return "a problem in one line" if told else problem.problem
