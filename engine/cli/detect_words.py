"""``runoff detect try`` in words: what was found, in its line, and what each tier saw."""

from __future__ import annotations

import msgspec

from engine.cli.render import clean
from engine.detect import Boundary, Fingerprint, Outcome, ZeroYield
from engine.detect.contract import boundary_outcome, strongest, text_of
from engine.detect.examine import Sighting, examine
from engine.detect.rules import rule_called
from engine.detect.standard import STANDARD_1
from engine.errors import UsageProblem

_LINE_CHARS = 160
_SIGHTINGS_MAX = 20


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where evidence stands: characters ``start`` to ``end`` of a stream, and the line they are in.

    ``column`` counts the characters of ``excerpt`` before the evidence; the line is from 1.
    """

    stream: str
    start: int
    end: int
    line: int
    text: str
    excerpt: str
    column: int


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One match of a rule, and the guard that held it back, if one did."""

    tier: str
    rule: str
    kind: str
    held_back: str | None
    place: Place


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """What three detectors say of one file."""

    boundary: Boundary | None
    evidence: Place | None
    source: str | None
    seen: list[Seen]
    fingerprint: Fingerprint | None
    zero_yield: ZeroYield | None


def tried(stdout: str, stderr: str, exit_code: int) -> Tried:
    """Ask all three; an exit code of 0 is a success."""
    outcome = boundary_outcome(stdout, stderr, exit_code)
    hit = strongest(outcome, STANDARD_1)
    ended = msgspec.structs.replace(outcome, succeeded=exit_code == 0)
    return Tried(
        boundary=hit,
        evidence=None if hit is None else _place(outcome, hit),
        source=None if hit is None else _source(hit.pattern),
        seen=[_seen(outcome, one) for one in examine(outcome)[-_SIGHTINGS_MAX:]],
        fingerprint=STANDARD_1.fingerprint(ended),
        zero_yield=STANDARD_1.zero_yield(ended, None),
    )


def _seen(outcome: Outcome, one: Sighting) -> Seen:
    return Seen(
        tier=one.tier,
        rule=one.rule,
        kind=one.kind,
        held_back=one.held_back,
        place=_placed(text_of(outcome, one.stream), one.stream, one.start, one.end),
    )


def _place(outcome: Outcome, hit: Boundary) -> Place | None:
    if hit.stream is None:
        return None
    return _placed(text_of(outcome, hit.stream), hit.stream, hit.start, hit.end)


def _placed(text: str, stream: str, start: int, end: int) -> Place:
    first = max(text.rfind("\n", 0, start) + 1, start - _LINE_CHARS // 2)
    last = text.find("\n", end)
    last = min(len(text) if last < 0 else last, first + _LINE_CHARS)
    return Place(
        stream=stream,
        start=start,
        end=end,
        line=text.count("\n", 0, start) + 1,
        text=text[start:end],
        excerpt=text[first : max(last, end)],
        column=start - first,
    )


def _source(rule: str) -> str | None:
    try:
        return rule_called(rule).source
    except UsageProblem:
        return None


def words_of(found: Tried) -> str:
    """Everything for a person, made harmless for a terminal."""
    parts = [_boundary(found), _tiers(found.seen)]
    if found.fingerprint is not None:
        print_of = found.fingerprint
        parts.append(f"fingerprint  {clean(print_of.fingerprint)}, family {clean(print_of.family)}")
        parts.append(f"  template   {clean(print_of.template)}")
    if found.zero_yield is not None:
        why = found.zero_yield
        detail = f" ({clean(why.detail)})" if why.detail else ""
        parts.append(f"zero-yield   {why.reason}{detail}: {clean(why.evidence)}")
    return "\n".join(parts)


def _boundary(found: Tried) -> str:
    if found.boundary is None or found.evidence is None:
        return "boundary     none"
    hit, place = found.boundary, found.evidence
    said = [f"boundary     {hit.disposition} {hit.kind}", *_shown(place)]
    said.append(f"  because    rule {clean(hit.pattern)!a}, from: {clean(found.source or 'shape')}")
    return "\n".join(said)


def _shown(place: Place) -> list[str]:
    """The line of the evidence, with a mark under it."""
    before = clean(place.excerpt[: place.column])
    marked = clean(place.text.replace("\n", " "))
    width = max(1, min(len(marked), _LINE_CHARS))
    return [
        f"  {place.stream:<9}  line {place.line}, characters {place.start} to {place.end}",
        f"    {clean(place.excerpt.replace(chr(10), ' '))}",
        f"    {' ' * len(before)}{'^' * width}",
    ]


def _tiers(seen: list[Seen]) -> str:
    lines = ["tiers"]
    for tier in ("record", "phrase", "suspect"):
        told = [_told(one) for one in seen if one.tier == tier]
        lines.append(f"  {tier:<9}  " + ("\n             ".join(told) or "nothing"))
    return "\n".join(lines)


def _told(one: Seen) -> str:
    held = f", held back: {one.held_back}" if one.held_back else ""
    text = clean(one.place.text.replace("\n", " "))[:_LINE_CHARS]
    return f"{one.kind} by {clean(one.rule)!a} at {one.place.stream}:{one.place.line}{held}: {text}"
