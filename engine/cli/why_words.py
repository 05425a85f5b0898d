"""Explanations in words, line by line; what agents and sources said in them is made harmless."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from engine.audit.facts import Evidence, Fact, Rule, Sighting
from engine.audit.overview import Overview
from engine.audit.why import Explanation, Said
from engine.audit.why_attempt import AttemptExplanation
from engine.cli.render import clean
from engine.triage.hindrance import Hindrance, span


def explanation_lines(found: Explanation) -> list[str]:
    """Why a run or phase stands where it stands."""
    name = found.run_id if found.phase_id is None else f"{found.run_id}/{found.phase_id}"
    lines = [f"Why {name}?", f"  {found.sentence}"]
    if found.change:
        lines.append(f"  what would change it: {found.change}")
    lines += _said("why it ran", found.ran)
    lines += _said("why it is judged so", found.judged)
    if found.rule and not found.judged:
        lines.append(f"  rule: {rule_words(found.rule)}")
    lines += _session(found)
    lines += hindrance_lines(found.hindrances, "held back by", found.new_session)
    if found.phase_id is None:
        counts = ", ".join(f"{count} {kind}" for kind, count in found.phases.items())
        lines.append(f"  phases: {counts}")
    left = f" (the newest; {found.facts_left_out} more in the log)" if found.facts_left_out else ""
    lines += _facts(f"facts{left}", found.facts)
    lines += _seen(found.fingerprint, found.seen)
    lines += _evidence(found.evidence)
    return [clean(line) for line in lines]


def attempt_lines(found: AttemptExplanation) -> list[str]:
    """Why an attempt was started, how it ended, what was decided from that."""
    lines = [f"Why {found.attempt_id}?", f"  {found.sentence}"]
    if found.change:
        lines.append(f"  what would change it: {found.change}")
    why = found.started.text.removeprefix(f"attempt {found.number} of {found.phase_id} started: ")
    place = f"@{found.started.pos}, {rule_words(found.rule)}"
    lines.append(f"  why it was started: {why} ({place})")
    lines += _facts("what was decided from its end", found.decided)
    lines += _facts("facts", found.facts)
    lines += _seen(found.fingerprint, found.seen)
    lines += _evidence(found.evidence)
    return [clean(line) for line in lines]


def overview_lines(found: Overview) -> list[str]:
    """Why nothing is running, or what is and what would be next."""
    lines = [found.sentence]
    if found.change:
        lines.append(f"  what would change it: {found.change}")
    for attempt in found.open_attempts:
        name = f"{attempt.run_id}/{attempt.phase_id}"
        late = " (past its deadline)" if attempt.age_us > attempt.timeout_ms * 1000 else ""
        age = f"open for {span(attempt.age_us)}{late}"
        lines.append(f"  @{attempt.started_pos}  {name} #{attempt.number} {age}")
    where = "in this session" if found.seen_from == "session" else "in a session begun now"
    lines += hindrance_lines(found.gates, f"gates {where}", found.gates)
    lines.append(f"  phases {where}:")
    for kind, count in found.phases.items():
        example = found.examples[kind]
        lines.append(f"    {count:>6}  {kind}, such as {example.run_id}/{example.phase_id}")
    if found.next is not None:
        about = "/".join(filter(None, (found.next.run_id, found.next.phase_id)))
        what = f"{found.next.what} {about}".rstrip()
        lines.append(f"  next {where}: {what}: {found.next.sentence}")
    else:
        lines.append(f"  next {where}: nothing")
    return [clean(line) for line in lines]


def rule_words(rule: Rule) -> str:
    """A rule for a person."""
    return f"{rule.rule} version {rule.version}, {rule.policy}"


def _said(what: str, said: Said | None) -> list[str]:
    if said is None:
        return []
    return [f"  {what}: {said.sentence} (@{said.pos}, {rule_words(said.rule)})"]


def _session(found: Explanation) -> list[str]:
    session = found.session
    if session is None:
        return []
    because = f", {session.because}" if session.because else ""
    decided = f" @{session.pos}: {session.sentence}" if session.sentence else ""
    return [f"  session: {session.session_id} ({session.status}{because}){decided}"]


def hindrance_lines(
    found: Sequence[Hindrance], title: str, lasting: Iterable[Hindrance]
) -> list[str]:
    """Each with what it lies in, and whether it is gone in a new session."""
    stay = {(hindrance.kind, hindrance.id) for hindrance in lasting}
    lines = [f"  {title}:"] if found else []
    for hindrance in found:
        place = f" @{hindrance.pos}" if hindrance.pos is not None else ""
        passes = "" if (hindrance.kind, hindrance.id) in stay else "; not in a new session"
        lines.append(f"    {hindrance.of} {hindrance.kind}{place}: {hindrance.text}{passes}")
    return lines


def _facts(title: str, facts: Sequence[Fact]) -> list[str]:
    if not facts:
        return []
    return [f"  {title}:", *(f"    @{fact.pos}  {fact.text}" for fact in facts)]


def _seen(fingerprint: str | None, seen: Sequence[Sighting]) -> list[str]:
    if not seen:
        return []
    places = ", ".join(f"@{s.pos} {s.run_id}/{s.phase_id}" for s in seen)
    return [f"  {fingerprint} was seen before: {places}"]


def _evidence(found: Sequence[Evidence]) -> list[str]:
    lines = ["  evidence:"] if found else []
    for each in found:
        lines.append(f"    @{each.pos}  {each.kind} {each.name}: {each.text} ({each.detector})")
        if each.excerpt:
            where = ""
            if each.digest is not None:
                where = f" (sha256 {each.digest}, bytes {each.byte_start} to {each.byte_end})"
            lines.append(f"      {each.stream}{where}: {each.excerpt.strip()}")
    return lines
