"""Compare: what should have been recorded against what was, as a list of exact differences."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any, NamedTuple

import msgspec

from engine.events import AnyEvent, Reason, encode, event_type

_TOLD = ("rule", "version", "policy", "basis", "sentence")
_SUBJECTS = ("attempt_id", "run_id", "phase_id", "fingerprint", "account", "scope", "measure")


class Expected(NamedTuple):
    """An event and the position of the fact that it belongs to; no event when none is due."""

    event: AnyEvent | None
    cause: int | None

    def is_stored_as(self, event: AnyEvent, data: str, cause: int | None) -> bool:
        """Whether these are its bytes, to the last one."""
        if self.cause != cause or type(event) is not type(self.event) or self.event is None:
            return False
        return encode(self.event) == data


Recorded = tuple[int, Expected]
"""What stands at a position."""


class Difference(NamedTuple):
    """Something recorded otherwise than it should have been.

    ``what``: ``missing`` (due and not recorded), ``unexpected`` (recorded and not due) or
    ``differs``, with the ``fields`` that do: name to recorded and expected value.  ``pos`` is the
    event's, or that of the fact it should follow.
    """

    pos: int
    what: str
    type: str
    subject: str
    fields: dict[str, tuple[Any, Any]]

    @property
    def sentence(self) -> str:
        """For a person."""
        about = f"{self.type} of {self.subject}" if self.subject else self.type
        if self.what != "differs":
            return f"{about} is {self.what}"
        told = (
            f"{name} is {old!r:.200}, not {new!r:.200}" for name, (old, new) in self.fields.items()
        )
        return f"{about} differs: {'; '.join(told)}"


def compared(
    expected: Sequence[Expected],
    recorded: Sequence[Recorded],
    pos: int,
    odd: Container[int] = (),
) -> list[Difference]:
    """Differences between both, paired by type and by what they are about; in order of position.

    ``odd``: positions where other bytes stand than are due; all there is to say of other orders.
    """
    left = list(expected)
    found: list[Difference] = []
    for place, line in recorded:
        twin = _twin(line, left)
        if twin is None:
            found.append(Difference(place, "unexpected", _type(line), _subject(line), {}))
            continue
        left.remove(twin)
        fields = _fields(line, twin)
        if fields:
            found.append(Difference(place, "differs", _type(line), _subject(line), fields))
    found += [Difference(pos, "missing", _type(e), _subject(e), {}) for e in left]
    if not found:
        found = [_misplaced(each) for each in recorded if each[0] in odd]
    return sorted(found, key=lambda difference: difference.pos)


def out_of_place(due: Sequence[Recorded], recorded: Sequence[Recorded]) -> list[Difference]:
    """Which of the same lines, as ``due`` has them in order, stand where another one is due."""
    return [_misplaced(each) for each, wanted in zip(recorded, due, strict=True) if each != wanted]


def _misplaced(recorded: Recorded) -> Difference:
    pos, line = recorded
    how = {"bytes": ("another order or another writing", "as this program writes it")}
    return Difference(pos, "differs", _type(line), _subject(line), how)


def without(expected: Sequence[Expected], unknown: Sequence[Expected]) -> list[Expected]:
    """``expected`` without what stands for decisions of rules that are unknown here."""
    left = list(expected)
    for line in unknown:
        twin = _twin(line, left)
        if twin is not None:
            left.remove(twin)
    return left


def _twin(line: Expected, among: Sequence[Expected]) -> Expected | None:
    """The one of the same type and subject, else one of the same type."""
    exact = next((e for e in among if _key(e) == _key(line)), None)
    return exact or next((e for e in among if _type(e) == _type(line)), None)


def _key(expected: Expected) -> tuple[str, str]:
    return _type(expected), _subject(expected)


def _type(expected: Expected) -> str:
    return "nothing" if expected.event is None else event_type(type(expected.event))


def _subject(expected: Expected) -> str:
    values = (getattr(expected.event, name, None) for name in _SUBJECTS)
    return "/".join(str(value) for value in values if value is not None)


def _fields(recorded: Expected, expected: Expected) -> dict[str, tuple[Any, Any]]:
    old, new = _flat(recorded), _flat(expected)
    names = [*old, *(name for name in new if name not in old)]
    return {n: (old.get(n), new.get(n)) for n in names if old.get(n) != new.get(n)}


def _flat(expected: Expected) -> dict[str, Any]:
    """Fields of an event by name, those of its reason one by one."""
    fields: dict[str, Any] = msgspec.to_builtins(expected.event)
    reason = fields.get("reason")
    if isinstance(reason, dict):
        told = msgspec.convert(fields.pop("reason"), Reason)
        fields |= {f"reason.{name}": getattr(told, name) for name in _TOLD}
        fields |= {f"reason.inputs.{each.name}": each.value for each in told.inputs}
    return fields | {"cause": expected.cause}
