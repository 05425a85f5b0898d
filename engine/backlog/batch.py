"""Batches: what the log is asked to take in at once, and what it is known to hold already.

A registration is one atomic group.  Its key names the group for good, so that a caller can derive
the same command id from it every time and a repeated request is answered, not repeated.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import TypeAlias

import msgspec

from engine.errors import UsageProblem
from engine.events import AnyEvent, PhaseRegistered, RunRegistered, TierRegistered, encode

GROUP_EVENTS_MAX = 400
GROUP_BYTES_MAX = 512 * 1024
_DIGEST_CHARACTERS = 32
_Named: TypeAlias = RunRegistered | TierRegistered | PhaseRegistered


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """Events to append to ``stream`` in one transaction.

    ``key`` is the stable identity of what is registered, such as ``run/telemetry-collection-v4``.
    """

    key: str
    stream: str
    events: tuple[AnyEvent, ...]


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What the log already holds.

    ``tiers`` and ``phases`` are pairs (run id, own id); ``usage_rows`` and ``estimate_rows`` the
    ``row_digest`` of imported rows.
    """

    runs: frozenset[str] = frozenset()
    tiers: frozenset[tuple[str, str]] = frozenset()
    phases: frozenset[tuple[str, str]] = frozenset()
    usage_rows: frozenset[str] = frozenset()
    estimate_rows: frozenset[str] = frozenset()


def run_registrations(run_id: str, events: Iterable[AnyEvent]) -> list[Registration]:
    """One run's events, under the keys ``run/<run_id>``, ``run/<run_id>#2``, ..."""
    name = f"run/{run_id}"
    return [
        Registration(key=name if number == 1 else f"{name}#{number}", stream=name, events=group)
        for number, (group, _) in enumerate(grouped(events), start=1)
    ]


def content_registrations(
    prefix: str, stream: str, events: Iterable[AnyEvent]
) -> list[Registration]:
    """Events of many runs, each group under ``<prefix>/<digest of its bytes>``."""
    return [
        Registration(key=f"{prefix}/{digest}", stream=stream, events=group)
        for group, digest in grouped(events)
    ]


def grouped(events: Iterable[AnyEvent]) -> Iterator[tuple[tuple[AnyEvent, ...], str]]:
    """Groups in the given order, each with the digest of its bytes.

    A group has at most 400 events and 512 KiB of encoded bytes.  Raises UsageProblem for an event
    over the log's limit for one event.
    """
    group: list[AnyEvent] = []
    texts: list[bytes] = []
    size_bytes = 0
    for event in events:
        text = encode(event).encode()
        if group and (len(group) == GROUP_EVENTS_MAX or size_bytes + len(text) > GROUP_BYTES_MAX):
            yield tuple(group), _digest(texts)
            group, texts, size_bytes = [], [], 0
        group.append(event)
        texts.append(text)
        size_bytes += len(text)
    if group:
        yield tuple(group), _digest(texts)


def refuse_known_runs(registrations: Iterable[Registration], known: Known) -> None:
    """Raise UsageProblem if any run to be registered is in the log already; a group is of one run.

    A run of which only the first groups are there is let pass: its registration was interrupted
    between two of them, and asking again finishes it, because the groups' keys are the same.  What
    is there of a group in part stems from another plan, since a group is recorded at once.
    """
    missing: dict[str, int] = {}
    for registration in registrations:
        named = [event for event in registration.events if isinstance(event, _Named)]
        there = [_is_known(event, known) for event in named]
        for run_id in {event.run_id for event in named}:
            if len(set(there)) > 1:
                raise UsageProblem(
                    f"the run {run_id} is in the log already, with other tiers or phases.",
                    remedy="register this one with --run-id NEW-ID; what is there never changes.",
                )
            missing[run_id] = missing.get(run_id, 0) + there.count(False)
    for run_id, count in missing.items():
        if run_id in known.runs and count == 0:
            raise UsageProblem(
                f"the run {run_id} is in the log already, with all of its phases.",
                remedy="drain it as it is, or register another one with --run-id NEW-ID.",
            )


def _is_known(event: _Named, known: Known) -> bool:
    if isinstance(event, PhaseRegistered):
        return (event.run_id, event.phase_id) in known.phases
    if isinstance(event, TierRegistered):
        return (event.run_id, event.tier_id) in known.tiers
    return event.run_id in known.runs


def _digest(texts: Iterable[bytes]) -> str:
    return hashlib.sha256(b"\n".join(texts)).hexdigest()[:_DIGEST_CHARACTERS]
