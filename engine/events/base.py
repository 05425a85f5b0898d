"""What every event is: a frozen, tagged, complete statement in the past tense."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec


class Value(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True, omit_defaults=True):
    """A part of an event; frozen like the event itself."""


class Event(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag_field="type",
    forbid_unknown_fields=True,
    omit_defaults=True,
    gc=False,
):
    """Base of the union.

    Fields at their default are not written, which halves what is stored, hashed and parsed; so a
    default belongs to the shape, and another default is a new ``schema``.

    ``schema`` is the version of the type's shape; the codec writes it into the envelope and
    upcasts older ones on read.  Fields named ``session_id``, ``run_id``, ``phase_id`` and
    ``attempt_id`` become the envelope's tags.

    Without ``gc``, as the states of folds are: what is frozen is made of what was there before, so
    it never forms a cycle, and an engine holds a hundred thousand of them that a collector would
    walk through again and again.
    """

    schema: ClassVar[int] = 1


class Input(Value, frozen=True):
    """One fact that a decision read."""

    name: str
    value: str | int | float | bool | None


class Reason(Value, frozen=True, kw_only=True):
    """Why a decision was taken; every decision carries one.

    ``rule`` and ``version`` name the pure function, ``policy`` the thresholds in force,
    ``basis`` the last log position that the function had seen, ``inputs`` what it read there,
    and ``sentence`` says it to a person.
    """

    rule: str
    version: int
    policy: str
    basis: int
    inputs: tuple[Input, ...] = ()
    sentence: str


PhaseState = Literal["QUEUED", "EXECUTING", "GATE", "CI_RUNNING", "COMPLETE", "FAILED", "SKIPPED"]
"""Where a phase stands, in the words of the systems that backlogs come from."""
