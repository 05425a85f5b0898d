"""Every rule of every rule set under one name: what it looks for, and where it comes from."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import msgspec
from msgspec.structs import replace

from engine.detect import fingerprint_rules
from engine.detect.catalogue import (
    Early,
    Hint,
    Phrase,
    Suspect,
    boundary_rules,
    expanded,
    zero_yield_rules,
)
from engine.detect.fingerprint_rules import Pattern
from engine.detect.released import BOUNDARY, FINGERPRINT, SHA256, ZERO_YIELD
from engine.errors import UsageProblem


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One pattern.

    ``tier``: record, phrase, suspect, guard, hint or early, and for fingerprints shape; ``kind`` is
    None for guards.
    """

    name: str
    rule_set: str
    tier: str
    kind: str | None
    pattern: str
    source: str | None
    date: str | None
    rank: int | None = None
    needs: str | None = None


class ReleasedRules(msgspec.Struct, frozen=True, kw_only=True):
    """A released set of rules; ``sha256`` is its file's, ``rules`` counts them by tier."""

    name: str
    version: int
    date: str
    sha256: str
    rules: dict[str, int]


def rule_sets() -> list[ReleasedRules]:
    """The released sets in use."""
    heads = (fingerprint_rules.rules(), boundary_rules(), zero_yield_rules())
    found: list[ReleasedRules] = []
    for head in heads:
        counts: dict[str, int] = {}
        for rule in rules():
            if rule.rule_set == head.name:
                counts[rule.tier] = counts.get(rule.tier, 0) + 1
        found.append(
            ReleasedRules(
                name=head.name,
                version=head.version,
                date=head.date,
                sha256=SHA256[head.name],
                rules=counts,
            )
        )
    return found


def rules() -> Iterator[Rule]:
    """Every rule, in the order of its file."""
    shapes, limits, silence = fingerprint_rules.rules(), boundary_rules(), zero_yield_rules()
    for kind in ("header", "wrapper", "noise", "exception", "shape"):
        for shape in getattr(shapes, kind):
            yield _rule(shape, f"{kind} {shape.name}", FINGERPRINT, "shape", kind)
    yield from _records()
    for phrase in limits.phrase:
        rule = _rule(phrase, phrase.name, BOUNDARY, "phrase", phrase.kind)
        pattern = expanded(phrase.pattern)
        yield replace(rule, pattern=pattern, rank=phrase.rank, needs=phrase.needs)
    for suspect in limits.suspect:
        yield _rule(suspect, f"suspected {suspect.kind}", BOUNDARY, "suspect", suspect.kind)
    yield from _guards()
    for hint in silence.hint:
        yield _rule(hint, hint.name, ZERO_YIELD, "hint", hint.detail)
    for early in silence.early:
        yield _rule(early, early.name, ZERO_YIELD, "early", "failed_before_llm")


def _rule(
    said: Pattern | Phrase | Suspect | Hint | Early, name: str, rule_set: str, tier: str, kind: str
) -> Rule:
    """What a file says of a pattern, under the name that it has among all rules."""
    return Rule(
        name=name,
        rule_set=rule_set,
        tier=tier,
        kind=kind,
        pattern=said.pattern,
        source=said.source,
        date=said.date,
    )


def _records() -> Iterator[Rule]:
    """Fields and their values, each once: programs that print the same are sources of one rule."""
    found: dict[str, Rule] = {}
    for record in boundary_rules().record:
        for key, value in product(record.keys, record.values):
            name = f"{key}={value}".lower()
            before = found.get(name)
            found[name] = Rule(
                name=name,
                rule_set=BOUNDARY,
                tier="record",
                kind=record.kind,
                pattern=f"{key}: {value}",
                source=record.source if before is None else f"{before.source}; {record.source}",
                date=record.date,
            )
    yield from found.values()


def _guards() -> Iterator[Rule]:
    rules = boundary_rules()
    pieces = {f"guard {name}": getattr(rules.guard, name) for name in rules.guard.__struct_fields__}
    pieces |= {f"scope {name}": pattern for name, pattern in rules.scope.items()}
    for name, pattern in pieces.items():
        yield Rule(
            name=name,
            rule_set=BOUNDARY,
            tier="guard",
            kind=None,
            pattern=pattern,
            source=None,
            date=rules.date,
        )


def rule_called(name: str) -> Rule:
    """The rule of that name.  Raises UsageProblem, with names that are near."""
    wanted = name.strip().lower()
    found = {rule.name: rule for rule in rules()}
    if wanted in found:
        return found[wanted]
    near = [known for known in found if wanted and wanted in known][:5]
    raise UsageProblem(
        f"there is no rule called {name[:80]!a}.",
        remedy=(f"did you mean {', '.join(near)}? " if near else "")
        + "`runoff detect list --rules` names them all.",
    )
