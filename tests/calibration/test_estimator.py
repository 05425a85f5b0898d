"""The estimator and its files of coefficients; a patch applied by hand gives what it promised."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from msgspec.structs import replace

from engine.calibration.attempts import estimated
from engine.calibration.calibrate import calibrate
from engine.calibration.estimator import (
    Coefficients,
    coefficients_from_json,
    coefficients_from_toml,
    estimate,
    shipped,
    shipped_toml,
)
from engine.calibration.result import Settings
from engine.cli.coefficients_file import coefficients_in_file
from engine.errors import UsageProblem
from tests.calibration.conftest import by_chance
from tests.rules.standings import started

WORDS = st.sampled_from([None, "docs", "TESTS", "strange", "Documentation"])


def test_the_shipped_file_is_the_one_that_is_gone_by_and_reads_back() -> None:
    found = shipped()
    assert found.version == "1"
    assert coefficients_from_json(found.json) == found
    assert found == coefficients_from_toml(shipped_toml(), "x")


def test_an_estimate_is_base_plus_deliverables_times_the_group() -> None:
    own = coefficients_from_toml(
        shipped_toml().replace('# "implementation/low" = 1.0', '"tests/low" = 3.0'), "x"
    )
    found = estimate(own, "testing", "LOW", 2)
    assert (found.category, found.complexity) == ("tests", "low")
    assert found.estimated_tokens == (1500 + 2 * 2500) * 3
    assert found.budget_tokens == found.estimated_tokens * 2
    assert "2 × 2500" in found.sentence
    assert "times 3 for its group" in found.sentence
    assert "times" not in estimate(own, "testing", "medium", 2).sentence.split(" It may take")[0]
    assert estimate(own, "docs", "low", 0) == estimate(own, "docs", "low", 1)
    assert "It may take 39000: 2 times as much" in found.sentence
    least, most = estimate(own, "docs", "low", 1), estimate(own, "docs", "low", 90)
    assert (least.budget_tokens, most.budget_tokens) == (own.budget_min, own.budget_max)
    assert "the least that there is, instead of" in least.sentence
    assert "the most that there is, instead of" in most.sentence


@given(WORDS, WORDS, st.integers(0, 90))
def test_an_attempt_is_estimated_as_its_phase_is_and_names_itself(
    category: str | None, complexity: str | None, deliverables: int
) -> None:
    begun = started(session_id="s", run_id="r", phase_id="p", attempt_id="a")
    found = estimated(begun, category, complexity, deliverables, shipped())
    made = estimate(shipped(), category, complexity, deliverables)
    assert (found.session_id, found.run_id, found.phase_id, found.attempt_id) == (*"srpa",)
    assert (found.category, found.complexity) == (made.category, made.complexity)
    assert (found.deliverables, found.coefficient_version) == (made.deliverables, "1")
    assert (found.estimated_tokens, found.budget_tokens) == (
        made.estimated_tokens,
        made.budget_tokens,
    )
    assert found.estimated_tokens != found.budget_tokens


@given(WORDS, WORDS, st.integers(0, 10_000))
def test_any_phase_has_an_estimate_and_a_budget(
    category: str | None, complexity: str | None, deliverables: int
) -> None:
    found = estimate(shipped(), category, complexity, deliverables)
    assert found.estimated_tokens >= 1
    assert shipped().budget_min <= found.budget_tokens <= shipped().budget_max


def test_a_patch_applied_by_hand_gives_the_estimates_that_it_promised() -> None:
    result = calibrate(
        by_chance(5, 400),
        Settings(min_samples=5, confidence_threshold=0.7),
        in_force=shipped().multiplier,
    )
    assert len(result.patch.proposed_changes) >= 2
    assert all(
        "the coefficients' file set" in each.action for each in result.patch.proposed_changes
    )
    text = shipped_toml().replace('version = "1"', 'version = "2"')
    for change in result.patch.proposed_changes:
        key = change.coefficient.removeprefix("multipliers.")
        text += f"{key} = {change.new_value!r}\n"
    patched = coefficients_from_toml(text, "patched")
    assert len(tomllib.loads(text)["multipliers"]) == len(result.patch.proposed_changes)
    for change in result.patch.proposed_changes:
        before = estimate(shipped(), change.category, change.complexity, 3)
        after = estimate(patched, change.category, change.complexity, 3)
        assert after.estimated_tokens == pytest.approx(
            before.estimated_tokens * change.proposed_multiplier, abs=0.51
        )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('version = "1"', "", "missing required field `version`"),
        ('version = "1"', 'version = "a b"', "version: expected 1 to 64"),
        ("default = 2.0", "default = 0.5", "reserve.'default': expected 1"),
        ("default = 2.0", "high = 2.0", "reserve: has no default"),
        ("low = 1500", "low = nan", "base.'low': expected 0"),
        ("low = 1500", "low = -1", "base.'low': expected 0"),
        ("low = 1500", 'low = "many"', "Expected `float`, got `str`"),
        ("budget_min = 8192", "budget_min = 99999", "budget_min and budget_max"),
        ("low = 1500", "LOW = 1500", "base.'LOW': write low"),
        ("configuration = 1200", "doc = 1200", "per_deliverable.'doc': write docs"),
        ("default = 2.0", "default = 2.0\n' high' = 3.0", "reserve.' high': write high"),
        ("[multipliers]", "[multipliers]\n'docs' = 2.0", "'docs': expected category/complexity"),
        ("[multipliers]", "[multipliers]\n'doc/LOW' = 2.0", "'doc/LOW': write docs/low"),
        ("[base]", "[basis]", "unknown field `basis`"),
        ("[base]", "[base", "is not TOML"),
        ("[base]", "a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a = 1\n[base]", "more than 16 dots"),
    ],
)
def test_a_file_that_is_none_is_refused_with_its_place(old: str, new: str, said: str) -> None:
    with pytest.raises(UsageProblem) as refused:
        coefficients_from_toml(shipped_toml().replace(old, new, 1), "mine.toml")
    assert said in refused.value.problem
    assert refused.value.problem.startswith("mine.toml: ")


def with_keys(name: str, count: int, value: float = 2.0, stem: str = "k") -> str:
    """The shipped file with so many further keys in one of its tables."""
    group = "/low" if name == "multipliers" else ""
    rows = "".join(f'"{stem}{number}{group}" = {value!r}\n' for number in range(count))
    return shipped_toml().replace(f"[{name}]\n", f"[{name}]\n{rows}")


@pytest.mark.parametrize("name", ["base", "per_deliverable", "reserve", "multipliers"])
def test_a_table_has_two_thousand_keys_at_most(name: str) -> None:
    room = 2000 - len(getattr(shipped(), name))
    found = coefficients_from_toml(with_keys(name, room), "x")
    assert len(getattr(found, name)) == 2000
    with pytest.raises(UsageProblem, match=f"{name}: has more than 2000 keys"):
        coefficients_from_toml(with_keys(name, room + 1), "x")


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("base", 0.0, 1e9),
        ("per_deliverable", 0.0, 1e9),
        ("reserve", 1.0, 1e6),
        ("multipliers", 1e-6, 1e6),
    ],
)
def test_a_number_lies_within_its_limits_both_included(
    name: str, least: float, most: float
) -> None:
    for value in (least, most):
        coefficients_from_toml(with_keys(name, 1, value), "x")
    for value in (math.nextafter(least, -1), math.nextafter(most, math.inf)):
        with pytest.raises(UsageProblem, match=f"expected {least:g} to "):
            coefficients_from_toml(with_keys(name, 1, value), "x")


@pytest.mark.parametrize(
    ("least", "most", "is_read"),
    [
        (1, 1, True),
        (1, 10**9, True),
        (10**9, 10**9, True),
        (0, 10, False),
        (11, 10, False),
        (1, 10**9 + 1, False),
    ],
)
def test_budgets_lie_between_one_token_and_a_thousand_million(
    least: int, most: int, *, is_read: bool
) -> None:
    of = replace(shipped(), budget_min=least, budget_max=most)
    if is_read:
        assert coefficients_from_json(of.json) == of
    else:
        with pytest.raises(UsageProblem, match="expected 1 ≤ min ≤ max ≤ 1000000000"):
            coefficients_from_json(of.json)


@pytest.mark.parametrize("length", [80, 81])
def test_of_a_key_that_is_refused_eighty_characters_are_told(length: int) -> None:
    def refused(stem: str, value: float) -> str:
        with pytest.raises(UsageProblem) as problem:
            coefficients_from_toml(with_keys("base", 1, value, stem), "x")
        return problem.value.problem

    small, great = "k" * (length - 1), "K" * (length - 1)
    shown = f"{small}0"[:80]
    assert refused(small, -1.0) == f"x: base.'{shown}': expected 0 to 1e+09."
    assert refused(great, 1.0) == f"x: base.'{shown.upper()}': write {shown}."


@pytest.mark.parametrize(("size_bytes", "is_read"), [(64 * 1024, True), (64 * 1024 + 1, False)])
def test_a_file_of_coefficients_has_sixty_four_kibibytes_at_most(
    tmp_path: Path, size_bytes: int, *, is_read: bool
) -> None:
    path = tmp_path / "own.toml"
    text = shipped_toml()
    path.write_text(text + "#" * (size_bytes - len(text.encode())))
    if is_read:
        assert coefficients_in_file(str(path)) == shipped()
    else:
        with pytest.raises(UsageProblem, match="has more than 65536 bytes"):
            coefficients_in_file(str(path))


def test_other_numbers_have_another_identity() -> None:
    other = coefficients_from_toml(shipped_toml().replace("1500", "1501"), "x")
    assert other.sha256 != shipped().sha256
    with pytest.raises(UsageProblem):
        coefficients_from_json("{}")
    assert isinstance(other, Coefficients)
