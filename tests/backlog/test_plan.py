"""Plan files: what is taken, and what is refused with file, place and remedy."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from engine.backlog.dependencies import Work, tangle, waits
from engine.backlog.paths import checked_path
from engine.backlog.plan import load_plan
from engine.errors import UsageProblem
from engine.events import Order

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "plan-file.md"


def written(folder: Path, **plan: Any) -> Path:
    file = folder / "plan.json"
    file.write_text(json.dumps({"run_id": "r", "phases": [{"phase_id": "a"}], **plan}))
    return file


def problem_of(file: Path) -> UsageProblem:
    with pytest.raises(UsageProblem) as caught:
        load_plan(file)
    assert str(file) in caught.value.problem
    assert "\n" not in caught.value.problem
    assert caught.value.remedy
    return caught.value


def phases(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"phases": list(entries)}


def test_the_smallest_plan_has_one_strict_tier(tmp_path: Path) -> None:
    plan = load_plan(written(tmp_path))
    (tier,) = plan.tiers
    (phase,) = plan.phases
    assert (tier.tier_id, tier.order) == ("T1", "strict")
    assert (phase.run_id, phase.phase_id, phase.name, phase.state) == ("r", "a", "a", "QUEUED")
    assert phase.category is None


def test_toml_and_json_say_the_same(tmp_path: Path) -> None:
    toml = tmp_path / "plan.toml"
    toml.write_text('run_id = "r"\n[[phases]]\nphase_id = "a"\ncategory = "Testing"\n')
    json_file = written(tmp_path, **phases({"phase_id": "a", "category": "Testing"}))
    assert load_plan(toml).phases == load_plan(json_file).phases
    assert load_plan(toml).phases[0].category == "tests"
    assert load_plan(toml).phases[0].category_raw == "Testing"


def test_the_examples_in_the_reference_load(tmp_path: Path) -> None:
    blocks = re.findall(r"```(toml|json)\n(.*?)```", REFERENCE.read_text(), re.DOTALL)
    assert {language for language, _ in blocks} == {"toml", "json"}
    for language, text in blocks:
        file = tmp_path / f"plan.{language}"
        file.write_text(text)
        assert load_plan(file).phases


def test_phases_are_ordered_by_tier_and_numbered_within_it(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        tiers=[{"tier_id": "one"}, {"tier_id": "two"}],
        **phases(
            {"phase_id": "a", "tier": "two"},
            {"phase_id": "b", "tier": "one"},
            {"phase_id": "c", "tier": "two"},
        ),
    )
    placed = [(p.phase_id, p.tier_index, p.phase_index) for p in load_plan(file).phases]
    assert placed == [("b", 0, 0), ("a", 1, 0), ("c", 1, 1)]


def test_a_phase_overrides_the_defaults_even_with_zero(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        defaults={"builder_attempts_max": 3},
        **phases({"phase_id": "a"}, {"phase_id": "b", "builder_attempts_max": 0}),
    )
    assert [p.builder_attempts_max for p in load_plan(file).phases] == [3, 0]


def test_labels_that_a_phase_needs_are_kept_once_each_in_order(tmp_path: Path) -> None:
    first = {"phase_id": "a", "needs": ["linux", "gpu", "linux"]}
    plan = load_plan(written(tmp_path, **phases(first, {"phase_id": "b"})))
    assert [phase.needs for phase in plan.phases] == [("gpu", "linux"), ()]


def test_the_path_goes_in_front_of_deliverables_and_context(tmp_path: Path) -> None:
    entry = {"phase_id": "a", "deliverables": ["./x.py"], "read_only_context": ["y//z/"]}
    (phase,) = load_plan(written(tmp_path, path="src", **phases(entry))).phases
    assert phase.deliverables[0].path == "src/x.py"
    assert phase.read_only_context == ("src/y/z/",)


@pytest.mark.parametrize(
    ("change", "place", "words"),
    [
        ({"run_id": ""}, "run_id", "0 bytes"),
        ({"run_id": 7}, "run_id", "Expected `str`"),
        ({"colour": "red"}, "", "unknown field `colour`"),
        ({"token_cap": -1}, "token_cap", ">= 0"),
        ({"phases": []}, "phases", "length >= 1"),
        (phases({"phase_id": "a", "category": 3}), "phases[0].category", "Expected `str"),
        (phases({"phase_id": "a", "cat": "x"}), "phases[0]", "unknown field `cat`"),
        (phases({"phase_id": "a\tb"}), "phases[0].phase_id", "control character"),
        (phases({"phase_id": "a"}, {"phase_id": "a"}), "phases[1].phase_id", "used before"),
        (phases({"phase_id": "a", "tier": "T9"}), "phases[0].tier", "no tier 'T9'"),
        (phases({"phase_id": "a", "after": ["a"]}), "phases[0].after[0]", "waits for itself"),
        (phases({"phase_id": "a", "after": ["b"]}), "phases[0].after[0]", "does not have"),
        (phases({"phase_id": "a", "needs": ["GPU"]}), "phases[0].needs", "cannot be one"),
        (phases({"phase_id": "a", "needs": [f"l{n}" for n in range(33)]}), "phases[0].needs", "33"),
        (phases({"phase_id": "a", "needs": "gpu"}), "phases[0].needs", "Expected `array`"),
        (
            phases({"phase_id": "a", "deliverables": ["/etc/passwd"]}),
            "phases[0].deliverables[0]",
            "not relative",
        ),
        (
            phases({"phase_id": "a", "deliverables": ["a/../../b"]}),
            "phases[0].deliverables[0]",
            "upward",
        ),
        (
            phases({"phase_id": "a", "deliverables": [{"path": "x", "must": []}]}),
            "phases[0].deliverables[0]",
            "unknown field",
        ),
        (
            phases({"phase_id": "a", "read_only_context": ["*.py"]}),
            "phases[0].read_only_context[0]",
            "pattern",
        ),
        ({"path": ".."}, "path", "upward"),
        ({"tiers": [{"tier_id": "T"}, {"tier_id": "T"}]}, "tiers[1].tier_id", "used before"),
        ({"tiers": [{"tier_id": "T"}, {"tier_id": "U"}]}, "phases[0]", "says no tier"),
        ({"tiers": [{"tier_id": "T", "order": "loose"}]}, "tiers[0].order", "Invalid enum"),
    ],
)
def test_a_wrong_plan_is_refused_with_the_place(
    tmp_path: Path, change: dict[str, Any], place: str, words: str
) -> None:
    problem = problem_of(written(tmp_path, **change)).problem
    assert f"plan.json: {place}" in problem
    assert words in problem


def test_an_absolute_path_is_refused_below_a_prefix_too(tmp_path: Path) -> None:
    entry = {"phase_id": "a", "deliverables": ["/x.py"]}
    assert "not relative" in problem_of(written(tmp_path, path="src/", **phases(entry))).problem


def test_phases_that_wait_for_each_other_are_named_in_a_circle(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        tiers=[{"tier_id": "T", "order": "free"}],
        **phases(
            {"phase_id": "a", "after": ["c"]},
            {"phase_id": "b", "after": ["a"]},
            {"phase_id": "c", "after": ["b"]},
        ),
    )
    problem = problem_of(file).problem
    assert re.search(r"wait for each other: (a → c → b → a|b → a → c → b|c → b → a → c)", problem)


def test_a_strict_tier_cannot_wait_for_a_later_phase(tmp_path: Path) -> None:
    entries = phases({"phase_id": "a", "after": ["b"]}, {"phase_id": "b"})
    strict = problem_of(written(tmp_path, **entries))
    assert "a → b → a" in strict.problem or "b → a → b" in strict.problem
    assert 'order = "free"' in strict.remedy
    free = written(tmp_path, tiers=[{"tier_id": "T", "order": "free"}], **entries)
    assert load_plan(free).phases[0].after == ("b",)


def test_a_file_that_several_phases_deliver_is_read_after_the_earlier_ones(tmp_path: Path) -> None:
    both = {"deliverables": ["x"], "read_only_context": ["x"]}
    file = written(
        tmp_path,
        tiers=[{"tier_id": "T", "order": "free"}],
        **phases({"phase_id": "a", **both}, {"phase_id": "b", **both}, {"phase_id": "c", **both}),
    )
    assert [phase.after for phase in load_plan(file).phases] == [(), ("a",), ("a", "b")]


def test_a_file_that_only_a_later_phase_delivers_is_waited_for(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        tiers=[{"tier_id": "T", "order": "free"}],
        **phases(
            {"phase_id": "a", "read_only_context": ["x"]}, {"phase_id": "b", "deliverables": ["x"]}
        ),
    )
    assert [phase.after for phase in load_plan(file).phases] == [("b",), ()]


def test_a_phase_may_not_wait_for_too_many_by_name(tmp_path: Path) -> None:
    makers = [{"phase_id": f"m{at}", "deliverables": ["x"]} for at in range(257)]
    file = written(tmp_path, **phases(*makers, {"phase_id": "z", "read_only_context": ["x"]}))
    assert "phases[257]" in problem_of(file).problem


def test_ten_thousand_phases_load_and_one_more_is_refused(tmp_path: Path) -> None:
    entries = [{"phase_id": f"p{at}"} for at in range(10_000)]
    assert len(load_plan(written(tmp_path, phases=entries)).phases) == 10_000
    assert "phases" in problem_of(written(tmp_path, phases=[*entries, {"phase_id": "q"}])).problem


def test_a_phase_too_large_for_one_event_is_refused(tmp_path: Path) -> None:
    names = ["n" * 256] * 256
    entry = {
        "phase_id": "a",
        "deliverables": [{"path": f"f{at}", "must_contain": names} for at in range(8)],
    }
    assert "phases[0]" in problem_of(written(tmp_path, **phases(entry))).problem


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("plan.toml", b"run_id = "),
        ("plan.toml", b"x = " + b"[" * 5_000),
        ("plan.toml", b"x" + b".y" * 1_000_000 + b" = 1"),  # minutes for the parser alone
        ("plan.toml", (b"x" * 65 + b".") * 40_000 + b"z = 1"),
        ("plan.toml", b'"x y" . ' * 200_000 + b"z = 1"),
        ("plan.toml", b"\xff\xfe"),
        ("plan.toml", b"n = " + b"9" * 5_000),
        ("plan.toml", b""),
        ("plan.json", b"{"),
        ("plan.json", b"[" * 100_000),
        ("plan.json", b"null"),
        ("plan.json", b'{"run_id": "\\ud800", "phases": [{"phase_id": "a"}]}'),
        ("plan.json", b" " * (4 * 1024 * 1024 + 1)),
        ("plan.yaml", b"run_id: r"),
    ],
)
def test_a_file_that_is_no_plan_is_refused_in_one_line(
    tmp_path: Path, name: str, content: bytes
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    problem_of(file)


def test_a_key_that_stands_twice_in_json_is_refused_as_in_toml(tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    for twice in ('"run_id":"a","run_id":"b"', '"run_id":"a","defaults":{"goal":"x","goal":"x"}'):
        file.write_text(f'{{{twice},"phases":[{{"phase_id":"p"}}]}}')
        key = "'goal'" if "goal" in twice else "'run_id'"
        assert f"the key {key} stands twice in one object" in problem_of(file).problem
    file.write_text('{"run_id":"a","phases":[{"phase_id":"p"},{"phase_id":"q"}]}')
    assert len(load_plan(file).phases) == 2


def test_a_missing_file_and_a_directory_are_refused(tmp_path: Path) -> None:
    assert "no such file" in problem_of(tmp_path / "none.toml").problem
    (tmp_path / "dir.toml").mkdir()
    assert "is no regular file" in problem_of(tmp_path / "dir.toml").problem


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["run_id", "phases", "phase_id", "after"]), inner)
        ),
        max_leaves=8,
    )
)
def test_whatever_json_says_the_answer_is_a_plan_or_one_problem(
    tmp_path: Path, value: object
) -> None:
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(value))
    assert answer_to(file) in {"a plan", "one problem"}


def answer_to(file: Path) -> str:
    try:
        return "a plan" if load_plan(file).phases else "nothing"
    except UsageProblem as problem:
        return "one problem" if problem.remedy and "\n" not in problem.problem else "a riddle"


@given(text=st.text(max_size=40))
def test_a_path_that_is_taken_stays_inside(text: str) -> None:
    try:
        path = checked_path(text, "path")
    except UsageProblem:
        return
    assert not path.startswith("/")
    assert ".." not in path.split("/")
    assert checked_path(path, "path") == path


ORDERS: list[Order] = ["strict", "free"]


@given(
    order=st.sampled_from(ORDERS),
    edges=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=8),
)
def test_a_tangle_is_found_exactly_when_some_phase_can_never_run(
    order: Order, edges: list[tuple[int, int]]
) -> None:
    work = [
        Work(str(at), order, tuple(str(b) for a, b in edges if a == at != b), (), ())
        for at in range(6)
    ]
    after = waits(work)
    done: set[str] = set()
    for _ in range(6):
        done |= {
            one.phase_id
            for at, one in enumerate(work)
            if done.issuperset(after[one.phase_id])
            and (order == "free" or done.issuperset(str(earlier) for earlier in range(at)))
        }
    assert (tangle(work, after) is None) == (len(done) == 6)
