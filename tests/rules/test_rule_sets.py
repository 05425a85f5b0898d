"""Rule sets are data that never changes: digests, names, sources, anchors, bounded patterns."""

from __future__ import annotations

import re
import tomllib
from importlib import resources
from pathlib import Path

import pytest
from msgspec.structs import replace

from engine.detect import catalogue, fingerprint_rules, released
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


def test_a_rule_by_no_name_is_refused() -> None:
    with pytest.raises(UsageProblem, match="no rule called"):
        rule_called("")


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
