"""Policies of one's own: what is read, what is refused, and that nothing gets lost on the way."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, strategies as st
from msgspec import inspect
from msgspec.structs import replace

from engine.errors import UsageProblem
from engine.triage.policy import POLICIES, Policy
from engine.triage.policy_compare import differences, warnings_of
from engine.triage.policy_fields import FIELDS, closest, expected_of, may_be_none
from engine.triage.policy_file import (
    CONTRADICTIONS,
    EXACT_MAX,
    policy_from_toml,
    setting_from,
    with_changes,
)
from engine.triage.policy_toml import own_name, policy_toml, value_in_toml
from engine.triage.policy_words import POLICY_WORDS, words_of

DEFAULT = POLICIES["default"]
HEAD = 'name = "mine"\nversion = 2\n'
SETTINGS = [name for name in FIELDS if name not in {"name", "version", "why"}]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
NUMBERS = st.integers(1, 255) | st.integers(1, EXACT_MAX)


def values(kind: inspect.Type) -> st.SearchStrategy[Any]:
    """Values of a field's own type, whatever fields Policy will have."""
    match kind:
        case inspect.BoolType():
            return st.booleans()
        case inspect.IntType():
            return NUMBERS
        case inspect.FloatType():
            return st.floats(1e-6, 1e9)
        case inspect.StrType():
            return TEXTS
        case inspect.NoneType():
            return st.none()
        case inspect.LiteralType(values=literals):
            return st.sampled_from(literals)
        case inspect.VarTupleType(item_type=item):
            return st.lists(values(item), max_size=4).map(tuple)
        case inspect.UnionType(types=types):
            return st.one_of([values(each) for each in types])
        case _:
            raise AssertionError(kind)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    kinds = {name: inspect.type_info(FIELDS[name].type) for name in FIELDS}
    fields = {name: draw(values(kind)) for name, kind in kinds.items()}
    fields["name"] = draw(st.sampled_from(["mine", "default", "Not a name"]))
    fields["version"] = draw(st.integers(1, EXACT_MAX))
    policy = Policy(**fields)
    for name, refuses, _ in CONTRADICTIONS:
        if refuses(policy):
            policy = replace(policy, **{name: getattr(DEFAULT, name)})
    return policy


@given(policies())
@example(DEFAULT)
@example(POLICIES["classic"])
def test_a_written_policy_reads_back_to_itself_but_for_a_taken_name(policy: Policy) -> None:
    text = policy_toml(policy)
    assert all(line.isprintable() for line in text.splitlines())
    again = policy_from_toml(text, "here")
    assert again == replace(policy, name=own_name(policy.name))
    assert differences(policy, again) == []
    assert policy_toml(again) == text


@given(policies(), st.sampled_from(SETTINGS), st.data())
def test_a_setting_changes_its_field_and_no_other(
    policy: Policy, name: str, data: st.DataObject
) -> None:
    value = data.draw(values(inspect.type_info(FIELDS[name].type)))
    changed = replace(policy, **{name: value})
    text = f"{name}={'none' if value is None else value_in_toml(value)}"
    if any(refuses(changed) for _, refuses, _ in CONTRADICTIONS):
        with pytest.raises(UsageProblem, match=name):
            changed_by(text, policy)
    else:
        assert changed_by(text, policy) == changed


def outcome(read: Callable[[], Policy]) -> Policy | UsageProblem:
    try:
        return read()
    except UsageProblem as problem:
        return problem


def changed_by(text: str, policy: Policy = DEFAULT) -> Policy:
    return with_changes(policy, dict([setting_from(text, "--set")]), "--set")


LINES = st.sampled_from(
    [
        *(f"{name} = {value}" for name in (*FIELDS, "base", "why", "nope") for value in
          ("0", "-1", "1", "9e99", "nan", "true", '""', "[]", "{}", '["FAILED"]', "1979-05-27")),
        HEAD, "[drains]", "[[drains]]", "a.b.c = 1", "0x" + "f" * 5000, "x = 0x" + "f" * 5000,
        "attempts_per_phase_max = 0x" + "f" * 5000, "drains = [0x" + "f" * 5000 + "]",
        "drains = " + "[" * 5000, "x = " + "{a = " * 2000, '"\\u001b" = 1', "\ufeff", "\x00",
        "timeout_exit_codes = [" + "1," * 300 + "]", f'verdict_rule = "{"x" * 3000}"',
    ]
)  # fmt: skip


@given(
    st.text() | st.lists(LINES).map("\n".join) | st.lists(LINES).map(lambda x: HEAD + "\n".join(x))
)
def test_any_text_is_a_policy_or_a_usage_problem(text: str) -> None:
    found = outcome(lambda: policy_from_toml(text, "here"))
    if isinstance(found, UsageProblem):
        assert found.problem.startswith("here")
        assert str(found).replace("\n", "").isprintable()
    else:
        assert warnings_of(found) is not None


@given(st.text() | st.tuples(st.sampled_from(list(FIELDS)), st.text()).map("=".join))
@example("attempts_per_phase_max=1\nname='x'")
@example("attempts_per_phase_max=\ud800")
def test_any_setting_is_a_change_or_a_usage_problem(text: str) -> None:
    found = outcome(lambda: changed_by(text))
    if isinstance(found, UsageProblem):
        assert found.problem.startswith("--set")
    else:
        key = text.partition("=")[0].strip()
        assert {each.field for each in differences(DEFAULT, found)} <= {key}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("version = 1", "name: is missing"),
        ('name = "mine"', "version: is missing"),
        ('name = "default"\nversion = 1', 'choose another name, such as "my-default"'),
        ('name = "My Own"\nversion = 1', "name: expected 1 to 40 of the characters"),
        (f'name = "{"x" * 41}"\nversion = 1', "name: expected 1 to 40"),
        ('name = "mine"\nversion = 0', "version: expected a whole number from 1"),
        ('name = "mine"\nversion = true', "version: expected a whole number from 1"),
        (HEAD + "attemps_per_phase_max = 1", "did you mean attempts_per_phase_max?"),
        (HEAD + "Drains = []", "did you mean drains?"),
        (HEAD + 'base = "clasic"', "did you mean classic?"),
        (HEAD + "base = 1", "base: expected one of default, classic, not 1"),
        (HEAD + f'why = "{"x" * 2001}"', "why: expected a text of at most 2000 characters"),
        (HEAD + "attempts_per_phase_max = -1", "expected a whole number from 1, or 0 for none"),
        (HEAD + f"attempts_per_phase_max = {2**53 + 1}", f"at most {2**53}"),
        (HEAD + "attempts_per_phase_max = 0.0", "a whole number from 1, or 0 for none, not 0.0"),
        (HEAD + "attempts_per_phase_max = -0.0", "a whole number from 1, or 0 for none, not -0.0"),
        (HEAD + "attempts_per_phase_max = 2.0", "a whole number from 1, or 0 for none, not 2.0"),
        (HEAD + "attempts_per_phase_max = nan", "a whole number from 1, or 0 for none, not nan"),
        (HEAD + "timeout_exit_codes = [1.0]", "timeout_exit_codes: expected a list"),
        (HEAD + "breaker_probes_max = -1", "breaker_probes_max: expected a whole number from 0"),
        (HEAD + "breaker_probes_max = 0.0", "breaker_probes_max: expected a whole number from 0"),
        (HEAD + 'breaker_probes_max = "x"', "breaker_probes_max: expected a whole number from 0"),
        (HEAD + 'attempts_per_phase_max = "two"', "attempts_per_phase_max: expected a whole"),
        (HEAD + "order_tiers = 0", "order_tiers: expected true or false, not 0"),
        (HEAD + 'verdict_rule = "three-way"', "did you mean three-way-1?"),
        (HEAD + 'drains = ["FAILED", "QUEUD"]', "did you mean QUEUED?"),
        (HEAD + 'drains = "QUEUED"', "drains: expected a list, each one of"),
        (HEAD + "drains = []", "drains: is empty"),
        (HEAD + 'drains = ["FAILED", "COMPLETE"]', "drains: names COMPLETE"),
        (HEAD + 'drains = ["FAILED", "FAILED"]', "drains: names a state twice"),
        (HEAD + "timeout_exit_codes = [0]", "expected 1 to 255"),
        (HEAD + "timeout_exit_codes = [143, 143]", "names an exit code twice"),
        (HEAD + "timeout_exit_codes = [-99]", "expected 1 to 255"),
        (HEAD + "timeout_exit_codes = [" + "1," * 257 + "]", "holds 257 values; 256 at most"),
        ("a." * 32_000 + "a = 1", "a line with more than 256 dots"),
        ("name = ", "is not TOML"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_with_key_and_remedy(text: str, says: str) -> None:
    with pytest.raises(UsageProblem) as refused:
        policy_from_toml(text, "mine.toml")
    assert str(refused.value).startswith("mine.toml")
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("attempts_per_phase_max", "is not KEY=VALUE"),
        ("attempts_per_phase_max=", "is not KEY=VALUE"),
        ("attempts=3", "there is no key 'attempts'"),
        ("name=other", "belong into a policy file"),
        ("order_tiers=none", "expected true or false, not 'none'"),
        ("drains=[]", "drains: is empty"),
        ("attempts_per_phase_max=1\nfingerprint_repeats_max=2", "more than one value"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused(text: str, says: str) -> None:
    with pytest.raises(UsageProblem) as refused:
        changed_by(text)
    assert says in str(refused.value)


def test_a_file_changes_its_base_and_nothing_else() -> None:
    text = HEAD + 'why = "few tokens left"\nattempts_per_phase_max = 1\n'
    assert policy_from_toml(text, "x") == replace(
        DEFAULT, **_identity("few tokens left"), attempts_per_phase_max=1
    )
    classic = policy_from_toml(HEAD + 'base = "classic"', "x")
    assert classic == replace(POLICIES["classic"], **_identity(""))


def _identity(why: str) -> dict[str, Any]:
    """Name and version of HEAD, and the reason if Policy keeps one."""
    return {"name": "mine", "version": 2} | ({"why": why} if "why" in FIELDS else {})


@pytest.mark.parametrize("name", [name for name in SETTINGS if may_be_none(name)])
def test_zero_is_none_where_a_field_may_be_none(name: str) -> None:
    assert getattr(policy_from_toml(f"{HEAD}{name} = 0", "x"), name) is None
    assert getattr(changed_by(f"{name}=none"), name) is None


def test_a_bare_word_is_a_text_because_shells_take_quotes_away() -> None:
    assert setting_from("verdict_rule=classic-1", "--set") == ("verdict_rule", "classic-1")
    assert setting_from('verdict_rule="classic-1"', "--set") == ("verdict_rule", "classic-1")
    assert setting_from("order_tiers = false", "--set") == ("order_tiers", False)
    assert setting_from('drains=["FAILED"]', "--set") == ("drains", ["FAILED"])


def test_every_field_has_its_meaning_and_says_what_it_may_hold() -> None:
    for name in Policy.__struct_fields__:
        words = POLICY_WORDS[name]
        assert words.meaning.endswith("."), name
        assert words.meaning.count(". ") == 0, name
        assert words_of(name) is words
        assert expected_of(name).words
        assert (words.unit == "ms") == name.endswith("_ms"), name


@pytest.mark.parametrize(
    ("unit", "named"),
    [
        ("attempts", ["attempts_per_", "orphans_per_", "fingerprint_", "consecutive_"]),
        ("attempts", ["breaker_probes_max", "samples_at_", "deferrals_"]),
        ("runs", ["breaker_runs"]),
        ("timeouts", ["timeouts_per_"]),
    ],
)
def test_what_a_field_counts_is_said_with_it(unit: str, named: list[str]) -> None:
    fields = [name for name in POLICY_WORDS if name.startswith(tuple(named))]
    assert len(fields) == len(named)
    assert {POLICY_WORDS[name].unit for name in fields} == {unit}


@pytest.mark.parametrize(("length", "is_cut"), [(1, False), (58, False), (59, True), (500, True)])
def test_a_value_that_is_refused_is_shown_up_to_sixty_characters(
    length: int, *, is_cut: bool
) -> None:
    with pytest.raises(UsageProblem) as refused:
        policy_from_toml(f'{HEAD}verdict_rule = "{"x" * length}"', "x")
    shown = f"'{'x' * length}'"
    assert (f"{shown[:60]}…" in refused.value.problem) == is_cut
    assert (shown in refused.value.problem) != is_cut


def test_warnings_name_what_is_switched_off() -> None:
    assert warnings_of(DEFAULT) == []
    of_classic = "\n".join(warnings_of(POLICIES["classic"]))
    assert "attempts_per_phase_max is none: a phase that fails is tried in every" in of_classic
    assert "orphans_per_phase_max is none (default: 5)" in of_classic
    assert "detectors is classic-1" in of_classic
    assert "drains leaves out QUEUED" in of_classic
    assert "drains leaves out EXECUTING" in of_classic
    endless = replace(DEFAULT, attempts_per_phase_max=None, drains=(*DEFAULT.drains, "GATE"))
    assert [text.partition(":")[0] for text in warnings_of(endless)] == [
        "attempts_per_phase_max is none",
        "drains names GATE, where others than the drain go on.",
    ]


AT_THE_LIMIT: list[tuple[str, dict[str, Any]]] = [
    ("breaker_probes_max = 0", {"breaker_probes_max": 0}),
    (f"cool_down_ms = {2**53}", {"cool_down_ms": 2**53}),
    (f'verdict_rule = "three-way-1"\ndetectors = "{"x" * 2000}"', {"detectors": "x" * 2000}),
    ("timeout_exit_codes = [-64, 1, 255]", {"timeout_exit_codes": (-64, 1, 255)}),
    ("breaker_runs = 1000", {"breaker_runs": 1000}),
]
BEYOND = [
    (f"cool_down_ms = {2**53 + 1}", f"(at most {2**53})"),
    (f'detectors = "{"x" * 2001}"', "at most 2000 characters"),
    ("timeout_exit_codes = [-65]", "expected 1 to 255, or -N for signal N"),
    ("timeout_exit_codes = [256]", "expected 1 to 255, or -N for signal N"),
    (f"timeout_exit_codes = [{-(2**53) - 1}]", "timeout_exit_codes: expected a list"),
    ("breaker_runs = 1001", "breaker_runs: waits for more than 1000 runs"),
    ('drains = ["FAILED", "QUEUED", "FAILED"]', "drains: names a state twice"),
]


@pytest.mark.parametrize(("text", "fields"), AT_THE_LIMIT)
def test_what_stands_at_a_limit_may_be_meant(text: str, fields: dict[str, Any]) -> None:
    assert policy_from_toml(HEAD + text, "x") == replace(DEFAULT, **_identity(""), **fields)


@pytest.mark.parametrize(("text", "says"), BEYOND)
def test_what_stands_just_beyond_one_may_not(text: str, says: str) -> None:
    with pytest.raises(UsageProblem) as refused:
        policy_from_toml(HEAD + text, "x")
    assert says in str(refused.value)


def test_a_name_a_version_and_a_reason_may_be_as_long_as_their_limits() -> None:
    longest = f'name = "{"x" * 40}"\nversion = {2**53}\nwhy = "{"y" * 2000}"\n'
    read = policy_from_toml(longest, "x")
    assert (read.name, read.version) == ("x" * 40, 2**53)
    with pytest.raises(UsageProblem, match="version: expected a whole number from 1 to"):
        policy_from_toml(f'name = "mine"\nversion = {2**53 + 1}', "x")


def test_a_list_and_a_line_may_be_as_long_as_their_limits() -> None:
    codes = [n for n in range(-64, 256) if n][:256]
    assert policy_from_toml(f"{HEAD}timeout_exit_codes = {codes}", "x").timeout_exit_codes == (
        *codes,
    )
    assert policy_from_toml(f"{HEAD}# {'.' * 256}", "x").name == "mine"
    with pytest.raises(UsageProblem, match="more than 256 dots"):
        policy_from_toml(f"{HEAD}# {'.' * 257}", "x")


@pytest.mark.parametrize("name", list(POLICIES))
def test_no_built_in_policy_lends_its_name(name: str) -> None:
    with pytest.raises(UsageProblem, match=f"{name} is a built-in policy"):
        policy_from_toml(f'name = "{name}"\nversion = 1', "x")
    assert own_name(name) == f"my-{name}"
    assert (own_name("mine"), own_name("Not a name")) == ("mine", "my-policy")


def test_a_setting_is_a_text_only_where_toml_has_no_word_for_it() -> None:
    for written, value in (("true", True), ("inf", float("inf")), ("x-y", "x-y")):
        assert setting_from(f"order_tiers={written}", "--set") == ("order_tiers", value)
    assert value_in_toml((True, None, 3, "a\x1b")) == '[true, 0, 3, "a\\U0000001b"]'
    text = 'a"b\\c\nd\te\rf'
    assert tomllib.loads(f"x = {value_in_toml(text)}") == {"x": text}


def test_a_difference_names_the_old_value_before_the_new() -> None:
    other = replace(DEFAULT, name="mine", version=9, breaker_runs=4, cool_down_ms=None)
    assert differences(DEFAULT, other) == [
        ("breaker_runs", DEFAULT.breaker_runs, 4),
        ("cool_down_ms", DEFAULT.cool_down_ms, None),
    ]


OTHER_DETECTORS = "fingerprints of sessions with other detectors cannot be compared."


def test_warnings_are_whole_sentences_on_what_a_setting_does() -> None:
    pause = replace(DEFAULT, provider_pause_ms=5, provider_pause_max_ms=5)
    assert warnings_of(pause) == []
    short = replace(pause, provider_pause_max_ms=4)
    assert warnings_of(short) == [
        "provider_pause_max_ms is shorter than provider_pause_ms, and bounds it."
    ]
    unprobed = replace(DEFAULT, breaker_probes_max=0, breaker_cool_down_ms=None)
    (_, told) = warnings_of(unprobed)
    assert told == (
        "breaker_probes_max and breaker_cool_down_ms are none: no probe closes a breaker that"
        " opens, only `runoff breaker reset` or a run that had failed by its cause and does well."
    )
    for other in (
        replace(unprobed, breaker_probes_max=1),
        replace(unprobed, breaker_runs=None),
    ):
        assert told not in warnings_of(other)
    assert warnings_of(replace(unprobed, breaker_cool_down_ms=5)) == []
    never = replace(DEFAULT, attempts_per_phase_max=None)
    assert warnings_of(never) == [
        "attempts_per_phase_max is none: a phase that fails is tried until the session ends."
    ]
    assert warnings_of(replace(never, once_per_session=True)) == [
        "attempts_per_phase_max is none: a phase that fails is tried in every session."
    ]
    switched = replace(DEFAULT, heed_incident_caps=False, cool_down_ms=None, drains=("FAILED",))
    meaning = words_of("cool_down_ms").meaning
    assert warnings_of(switched)[:1] == [
        f"cool_down_ms is none (default: 86400000), which switches this off: {meaning}"
    ]
    assert warnings_of(replace(DEFAULT, detectors="classic-1", drains=("FAILED", "GATE"))) == [
        f"detectors is classic-1 (default: standard-1); {OTHER_DETECTORS}",
        "drains names GATE, where others than the drain go on.",
        "drains leaves out QUEUED: such phases are not attempted.",
        "drains leaves out EXECUTING: such phases are not attempted.",
    ]


def test_the_closest_word_is_told_as_it_is_written() -> None:
    assert closest("queud", ("FAILED", "QUEUED")) == "QUEUED"
    assert closest("zzz", ("FAILED", "QUEUED")) is None
