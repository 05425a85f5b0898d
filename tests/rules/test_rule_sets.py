"""Rule sets are data that never changes: digests, names, sources, anchors, bounded patterns."""

from __future__ import annotations

import re
import tomllib
from importlib import resources
from pathlib import Path

import pytest
from msgspec.structs import replace

from engine.detect import catalogue, fingerprint_rules, released, versions
from engine.detect.candidates import candidates
from engine.detect.catalogue import (
    anchored,
    boundary_rules,
    compiled,
    expanded,
    zero_yield_rules,
)
from engine.detect.folded import fold
from engine.detect.released import SHA256, proved
from engine.detect.rules import Rule, rule_called, rule_sets, rules
from engine.errors import LogUnreadable, UsageProblem

WORDINGS = tomllib.loads(Path(__file__).with_name("limit_wordings.toml").read_text("utf-8"))
SENTENCES = [
    fold(text)
    for text in [*WORDINGS["sample"].values(), *(t for ts in WORDINGS["met"].values() for t in ts)]
]
FILES = resources.files("engine.detect").joinpath("rule_sets")
UNBOUNDED = re.compile(r"(?<!\\)(?:\\\\)*[*+](?![+])")


@pytest.mark.parametrize("name", SHA256)
def test_the_table_holds_the_digest_of_every_file(name: str) -> None:
    assert proved(name, FILES.joinpath(f"{name}.toml").read_bytes())


def test_every_file_is_in_the_table_or_named_by_one_that_is() -> None:
    assert {path.name for path in FILES.iterdir()} == {
        f"{name}.toml" for name in (*SHA256, "fp-1-tongues")
    }


def test_the_digest_of_the_fingerprints_stands_for_both_of_their_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert fingerprint_rules.tongues().name == "fp-1-tongues"
    other = replace(fingerprint_rules.rules(), tongues_sha256="0" * 64)
    monkeypatch.setattr(fingerprint_rules, "rules", lambda: other)
    with pytest.raises(LogUnreadable, match="the rule set fp-1-tongues is not the one"):
        fingerprint_rules.tongues.__wrapped__()


@pytest.mark.parametrize("name", SHA256)
def test_a_file_that_differs_by_a_byte_is_refused(name: str) -> None:
    with pytest.raises(
        LogUnreadable, match=f"the rule set {name} is not the one that was released"
    ) as told:
        assert proved(name, FILES.joinpath(f"{name}.toml").read_bytes() + b"\n")
    assert "new name" in told.value.remedy


def test_a_refusal_tells_twelve_digits_of_either_digest() -> None:
    with pytest.raises(LogUnreadable, match=r"sha256 e3b0c44298fc…, not a{12}…\)"):
        proved("fp-9", b"", "a" * 64)
    with pytest.raises(LogUnreadable, match=r"sha256 e3b0c44298fc…, not …\)"):
        proved("fp-9", b"")
    assert (
        proved("fp-9", b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
        == ""
    )


def test_a_changed_file_is_never_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(released, "SHA256", dict.fromkeys(SHA256, "0" * 64))
    catalogue.zero_yield_rules.cache_clear()
    try:
        with pytest.raises(LogUnreadable, match="zero-yield-1"):
            zero_yield_rules()
    finally:
        monkeypatch.undo()
        catalogue.zero_yield_rules.cache_clear()


def test_every_set_says_which_it_is() -> None:
    assert [(one.name, one.version) for one in rule_sets()] == [
        ("fp-1", 1),
        ("boundary-1", 1),
        ("zero-yield-1", 1),
    ]
    for one in rule_sets():
        assert one.sha256 == SHA256[one.name]
        assert sum(one.rules.values()) == sum(rule.rule_set == one.name for rule in rules())


def test_every_rule_has_a_kind_a_source_and_a_date() -> None:
    for rule in rules():
        assert rule.date is not None
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", rule.date), rule.name
        assert rule.tier == "guard" or (rule.kind and rule.source), rule.name
        assert rule_called(rule.name).tier == rule.tier


def test_every_rule_is_named_once_with_all_of_its_sources() -> None:
    names = [rule.name for rule in rules()]
    assert len(names) == len(set(names))
    source = rule_called("stop_reason=max_tokens").source or ""
    assert "Anthropic Messages API" in source
    assert "Agent Client Protocol" in source


def test_rules_are_counted_by_tier() -> None:
    assert [(one.date, one.rules) for one in rule_sets()] == [
        ("2026-11-26", {"shape": 65}),
        ("2026-11-26", {"record": 258, "phrase": 88, "suspect": 8, "guard": 13}),
        ("2026-11-26", {"hint": 2, "early": 12}),
    ]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("header iso time", ("fp-1", "shape", "header", None, None)),
        ("exception named", ("fp-1", "shape", "exception", None, None)),
        ("stop_reason=max_tokens", ("boundary-1", "record", "max_output_tokens", None, None)),
        (" STOP_REASON=End_Turn ", ("boundary-1", "record", "success", None, None)),
        ("maximum context length", ("boundary-1", "phrase", "context_window", 1, None)),
        ("graph recursion", ("boundary-1", "phrase", "max_turns", 2, "agent")),
        ("suspected quota", ("boundary-1", "suspect", "quota", None, None)),
        ("guard success", ("boundary-1", "guard", None, None, None)),
        ("scope llm", ("boundary-1", "guard", None, None, None)),
        ("telemetry off", ("zero-yield-1", "hint", "telemetry_off", None, None)),
        ("setting missing", ("zero-yield-1", "early", "failed_before_llm", None, None)),
    ],
)
def test_a_rule_says_where_it_belongs(name: str, told: tuple[object, ...]) -> None:
    found = rule_called(name)
    assert (found.rule_set, found.tier, found.kind, found.rank, found.needs) == told


def test_a_rule_shows_the_pattern_that_is_looked_for() -> None:
    assert rule_called("setting missing").pattern == zero_yield_rules().early[3].pattern
    assert rule_called("scope agent").pattern == boundary_rules().scope["agent"]
    assert rule_called("guard after").pattern == boundary_rules().guard.after
    assert rule_called("stop_reason=max_tokens").pattern == "stop_reason: max_tokens"
    phrases = {phrase.name: phrase.pattern for phrase in boundary_rules().phrase}
    worded = next(name for name, pattern in phrases.items() if re.search(r"\{[a-z]", pattern))
    assert rule_called(worded).pattern == expanded(phrases[worded]) != phrases[worded]
    assert not [name for name in phrases if re.search(r"\{[a-z]", expanded(phrases[name]))]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("", []),
        ("no such rule", []),
        ("Setting", ["setting missing", "setting or argument missing"]),
        ("guard ", ["guard line", "guard code", "guard before", "guard after", "guard host"]),
    ],
)
def test_a_rule_by_no_name_is_refused_with_five_names_that_are_near(
    name: str, near: list[str]
) -> None:
    with pytest.raises(UsageProblem, match="no rule called") as told:
        rule_called(name)
    asked = f"did you mean {', '.join(near)}? " if near else ""
    assert told.value.remedy == f"{asked}`runoff detect list --rules` names them all."


def test_the_name_of_no_rule_is_told_up_to_eighty_characters() -> None:
    with pytest.raises(UsageProblem, match=rf"called '{'x' * 80}'\."):
        rule_called("x" * 81)


KINDS = ("fingerprint", "boundary", "zero_yield")


@pytest.mark.parametrize(
    ("name", "kinds", "of"),
    [
        ("classic-1", KINDS, "classic-1"),
        ("standard-1", KINDS, "standard-1"),
        ("fp-1", ("fingerprint",), "standard-1"),
        ("boundary-1", ("boundary",), "standard-1"),
        ("zero-yield-1", ("zero_yield",), "standard-1"),
    ],
)
def test_a_rule_set_answers_for_its_kinds(name: str, kinds: tuple[str, ...], of: str) -> None:
    found = versions.rule_set_named(name)
    assert (found.name, set(found.kinds)) == (name, set(kinds))
    assert found.detectors is versions.detectors(of)
    assert found.detectors.name == of
    for kind in found.kinds:
        source = found.detectors.source(kind)
        assert name in (source.name, of)
        assert source.sha256 == SHA256.get(source.name)


def test_a_set_by_no_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageProblem, match=rf"^There are no detectors called '{'x' * 40}'") as told:
        versions.detectors("x" * 41)
    assert told.value.remedy == "choose one of classic-1, standard-1."
    with pytest.raises(UsageProblem, match=rf"^there is no rule set called '{'x' * 40}'") as told:
        versions.rule_set_named("x" * 41)
    assert told.value.remedy == (
        "choose one of classic-1, standard-1, fp-1, boundary-1, zero-yield-1."
    )


@pytest.mark.parametrize(
    ("anchor", "text", "stands"),
    [
        ("a|b c", "a c", True),
        ("a|b c", "cb", True),
        ("a|b c", "c", False),
        ("a|b c", "ab", False),
        ("", "", True),
    ],
)
def test_every_piece_of_an_anchor_must_stand_there(anchor: str, text: str, *, stands: bool) -> None:
    assert anchored(anchor, text) is stands


@pytest.mark.parametrize(
    ("pattern", "text", "length"),
    [
        ("a b", "a \n\tb", 5),
        ("a b", "ab", None),
        ("a b", f"a{' ' * 20}b", 22),
        ("a b", f"a{' ' * 21}b", None),
        ("a ?b", "ab", 2),
        ("a ?b", f"a{' ' * 20}b", 22),
        ("a ?b", f"a{' ' * 21}b", None),
        ("a[ .]b", "a b", 3),
        ("a[ .]b", "a  b", None),
        ("a[ .]b", "a\tb", None),
        (r"a\ b", "a b", 3),
        (r"a\ b", "a  b", None),
        ("a{2}", "aa", 2),
        ("a{2}", "a{2}", None),
    ],
)
def test_a_blank_of_a_pattern_is_white_space_of_any_kind(
    pattern: str, text: str, length: int | None
) -> None:
    found = compiled(pattern).fullmatch(text)
    assert (found and found.end()) == length


def test_what_a_record_says_is_known_in_any_case() -> None:
    told = catalogue.meanings()
    assert told["finish_reason", "max_tokens"] == "max_output_tokens"
    assert told["stop_reason", "end_turn"] == "success"
    assert all(key == key.lower() and value == value.lower() for key, value in told)
    assert len(told) == 258


@pytest.mark.parametrize(
    "rule", [rule for rule in rules() if rule.tier != "record"], ids=lambda rule: rule.name
)
def test_every_repetition_of_every_pattern_is_bounded(rule: Rule) -> None:
    pattern = expanded(rule.pattern) if rule.tier != "shape" else rule.pattern
    without_escapes = re.sub(r"\\.", "e", pattern)
    assert UNBOUNDED.search(re.sub(r"\[[^\]]*\]", "c", without_escapes)) is None


def test_every_sentence_a_phrase_finds_is_found_past_anchors_and_candidates() -> None:
    for phrase in boundary_rules().phrase:
        for text in SENTENCES:
            hit = compiled(phrase.pattern).search(text)
            if hit is not None:
                assert anchored(phrase.anchor, text), (phrase.name, text)
                spans = candidates(text)
                assert any(a <= hit.start() and hit.end() <= b for a, b in spans), text
