"""Seeding: the shipped plan, and copies of it."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from msgspec.structs import replace

from engine.backlog.batch import (
    GROUP_BYTES_MAX,
    GROUP_EVENTS_MAX,
    Known,
    content_registrations,
    grouped,
    refuse_known_runs,
)
from engine.backlog.seed import (
    built_in_plan,
    needing,
    registrations,
    repeats_for,
    samples_by_group,
)
from engine.errors import UsageProblem
from engine.events import PhaseRegistered, RunRegistered, TierRegistered, encode

PATH = "examples/telemetry_utils/"
TABLE: list[tuple[str, str, str, list[str], list[str]]] = [
    ("telemetry-p1-string-util", "implementation", "low", ["string_helper.py"], []),
    ("telemetry-p2-number-util", "implementation", "low", ["number_helper.py"], []),
    ("telemetry-p3-list-util", "implementation", "medium", ["list_helper.py"], []),
    ("telemetry-p4-date-util", "implementation", "medium", ["date_helper.py"], []),
    ("telemetry-p5-dict-util", "implementation", "medium", ["dict_helper.py"], []),
    (
        "telemetry-p6-string-tests",
        "tests",
        "medium",
        ["test_string_helper.py", "conftest.py"],
        ["string_helper.py"],
    ),
    (
        "telemetry-p7-number-tests",
        "tests",
        "low",
        ["test_number_helper.py"],
        ["number_helper.py", "conftest.py"],
    ),
    (
        "telemetry-p8-list-tests",
        "tests",
        "medium",
        ["test_list_helper.py"],
        ["list_helper.py", "conftest.py"],
    ),
    (
        "telemetry-p9-readme",
        "docs",
        "low",
        ["README.md"],
        ["string_helper.py", "number_helper.py", "list_helper.py"],
    ),
    ("telemetry-p10-file-util", "implementation", "medium", ["file_helper.py"], []),
]
MUST_CONTAIN = {
    "string_helper.py": ("capitalize_words", "reverse_string"),
    "number_helper.py": ("is_even", "is_prime", "factorial"),
    "list_helper.py": ("chunk", "flatten", "unique", "group_by"),
    "date_helper.py": ("format_date", "parse_date", "add_days", "diff_days"),
    "dict_helper.py": ("deep_merge", "get_nested", "set_nested", "filter_keys"),
    "file_helper.py": ("read_json", "write_json", "read_lines", "write_lines"),
}


def test_the_telemetry_plan_is_the_table_of_the_specification() -> None:
    plan = built_in_plan("telemetry")
    shown = [
        (
            phase.phase_id,
            phase.category,
            phase.complexity,
            [deliverable.path.removeprefix(PATH) for deliverable in phase.deliverables],
            [path.removeprefix(PATH) for path in phase.read_only_context],
        )
        for phase in plan.phases
    ]
    assert shown == TABLE
    assert [phase.phase_index for phase in plan.phases] == list(range(10))


def test_the_telemetry_plan_has_the_caps_of_the_specification() -> None:
    plan = built_in_plan("telemetry")
    assert plan.run == RunRegistered(
        run_id="telemetry-collection-v4",
        origin="plan telemetry.toml",
        state="RUN_CREATED",
        token_cap=500_000,
        phases_max=15,
        duration_minutes_max=120,
    )
    (tier,) = plan.tiers
    assert (tier.tier_id, tier.name, tier.ci_run_cap, tier.order) == (
        "T1",
        "Telemetry Collection Tier",
        20,
        "free",
    )
    caps = {
        (p.state, p.builder_attempts_max, p.auditor_attempts_max, p.incident_token_cap)
        for p in plan.phases
    }
    assert caps == {("QUEUED", 3, 2, 50_000)}
    assert all(phase.goal for phase in plan.phases)


def test_every_deliverable_of_the_telemetry_plan_must_contain_its_names() -> None:
    plan = built_in_plan("telemetry")
    found = {
        deliverable.path.removeprefix(PATH): deliverable.must_contain
        for phase in plan.phases
        for deliverable in phase.deliverables
        if deliverable.must_contain
    }
    assert found == MUST_CONTAIN


def test_a_phase_waits_for_the_phases_whose_deliverables_it_reads() -> None:
    after = {
        phase.phase_id[:12].rstrip("-"): phase.after for phase in built_in_plan("telemetry").phases
    }
    assert after["telemetry-p6"] == ("telemetry-p1-string-util",)
    assert after["telemetry-p7"] == ("telemetry-p2-number-util", "telemetry-p6-string-tests")
    assert after["telemetry-p8"] == ("telemetry-p3-list-util", "telemetry-p6-string-tests")
    assert after["telemetry-p9"] == (
        "telemetry-p1-string-util",
        "telemetry-p2-number-util",
        "telemetry-p3-list-util",
    )
    assert after["telemetry-p1"] == ()


def test_five_copies_make_every_group_large_enough_to_calibrate() -> None:
    plan = built_in_plan("telemetry")
    assert sorted(samples_by_group(plan).values(), reverse=True) == [4, 2, 2, 1, 1]
    assert repeats_for(plan, 5) == 5
    groups: Counter[tuple[str | None, str | None]] = Counter()
    for registration in registrations(plan, repeat=5):
        for event in registration.events:
            if isinstance(event, PhaseRegistered):
                groups[event.category, event.complexity] += 1
    assert min(groups.values()) == 5


def test_copies_are_runs_with_numbered_names_and_the_same_phases() -> None:
    plan = built_in_plan("telemetry")
    found = registrations(plan, run_id="mine", repeat=3)
    assert [one.key for one in found] == ["run/mine", "run/mine-r2", "run/mine-r3"]
    assert {one.stream for one in found} == {"run/mine", "run/mine-r2", "run/mine-r3"}
    for one, name in zip(found, ("mine", "mine-r2", "mine-r3"), strict=True):
        run, tier, *phases = one.events
        assert isinstance(run, RunRegistered)
        assert isinstance(tier, TierRegistered)
        assert {event.run_id for event in phases if isinstance(event, PhaseRegistered)} == {name}
        assert len(phases) == 10


def test_registering_twice_gives_the_same_keys_and_bytes() -> None:
    first = registrations(built_in_plan("telemetry"), repeat=2)
    assert registrations(built_in_plan("telemetry"), repeat=2) == first


def test_every_phase_of_a_plan_can_be_given_labels_beside_its_own() -> None:
    plan = needing(needing(built_in_plan("telemetry"), ["linux"]), ["gpu", "linux"])
    assert {phase.needs for phase in plan.phases} == {("gpu", "linux")}
    assert needing(plan, []) == plan
    with pytest.raises(UsageProblem, match="--needs has a label that cannot be one: 'a b'"):
        needing(plan, ["a b"])


@pytest.mark.parametrize("repeat", [0, -1, 1001])
def test_a_repeat_beyond_its_limits_is_refused(repeat: int) -> None:
    with pytest.raises(UsageProblem, match="--repeat from 1 to 1000"):
        registrations(built_in_plan("telemetry"), repeat=repeat)


@pytest.mark.parametrize("run_id", ["", " edge", "a\nb", "x" * 513])
def test_a_run_id_beyond_the_limits_is_refused(run_id: str) -> None:
    with pytest.raises(UsageProblem, match="the run id"):
        registrations(built_in_plan("telemetry"), run_id=run_id)


def test_the_former_name_answers_with_the_way_to_move_on() -> None:
    for name in ("collect_telemetry_data", "collect_telemetry_data.py"):
        with pytest.raises(UsageProblem, match="run `runoff seed`: it registers"):
            built_in_plan(name)


def test_an_unknown_plan_name_is_refused_with_those_that_exist() -> None:
    with pytest.raises(UsageProblem, match="use telemetry"):
        built_in_plan("../telemetry")


def test_a_run_that_is_in_the_log_already_is_refused() -> None:
    groups = registrations(built_in_plan("telemetry"))
    known = _known(groups[0].events)
    with pytest.raises(UsageProblem, match="telemetry-collection-v4 is in the log already"):
        refuse_known_runs(groups, known)
    refuse_known_runs(groups, Known())


def test_a_run_of_which_only_the_first_groups_are_known_may_be_finished() -> None:
    first, *others = registrations(built_in_plan("telemetry"), repeat=2)
    more = replace(first, key=f"{first.key}#2", events=(replace(first.events[-1], phase_id="x"),))
    refuse_known_runs([first, more], _known(first.events))
    with pytest.raises(UsageProblem, match="with all of its phases"):
        refuse_known_runs([first, more, *others], _known((*first.events, *more.events)))


@pytest.mark.parametrize("there", [slice(1), slice(1, 2), slice(5), slice(3, None)])
def test_a_run_that_is_there_otherwise_is_no_registration_to_finish(there: slice) -> None:
    groups = registrations(built_in_plan("telemetry"))
    with pytest.raises(UsageProblem, match="telemetry-collection-v4 is in the log already, with"):
        refuse_known_runs(groups, _known(groups[0].events[there]))


def _known(events: tuple[object, ...]) -> Known:
    return Known(
        runs=frozenset(e.run_id for e in events if isinstance(e, RunRegistered)),
        tiers=frozenset((e.run_id, e.tier_id) for e in events if isinstance(e, TierRegistered)),
        phases=frozenset((e.run_id, e.phase_id) for e in events if isinstance(e, PhaseRegistered)),
    )


def test_a_group_stays_below_its_limits_and_keeps_the_order() -> None:
    phase = built_in_plan("telemetry").phases[0]
    many = [
        msgspec.structs.replace(phase, phase_id=f"p{at}", goal="g" * (at % 9_000))
        for at in range(2_000)
    ]
    groups = [group for group, _ in grouped(many)]
    assert [event for group in groups for event in group] == many
    assert all(len(group) <= GROUP_EVENTS_MAX for group in groups)
    assert all(sum(len(encode(event)) for event in group) <= GROUP_BYTES_MAX for group in groups)
    assert len(groups) > 2_000 / GROUP_EVENTS_MAX


def test_a_content_key_names_its_events_and_no_others() -> None:
    first, second, *_ = built_in_plan("telemetry").phases
    keys = [
        content_registrations("import/phases", "s", events)[0].key
        for events in ([first], [second], [first, second], [second, first], [first])
    ]
    assert keys[0] == keys[4]
    assert len(set(keys)) == 4
