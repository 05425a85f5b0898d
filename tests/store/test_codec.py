"""Events to bytes and back: golden lines, refusals that name the position, upcasting."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.errors import UnknownEvent, UsageProblem
from engine.events import AnyEvent, RunReinstated, codec, decode, decode_page, encode
from engine.events.codec import EVENT_BYTES_MAX, EVENT_CLASSES, SCHEMAS
from engine.events.envelope import GENESIS, chain_hash

HERE = Path(__file__).parent
GOLDEN = HERE / "golden"


def _samples() -> Mapping[str, AnyEvent]:
    # Test folders are no packages, so the module beside this one is loaded by its path.
    spec = importlib.util.spec_from_file_location("golden_samples", HERE / "golden_samples.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    samples: Mapping[str, AnyEvent] = module.SAMPLES
    return samples


SAMPLES = _samples()
EVENT = RunReinstated(run_id="r", generation=2, by="ann", why="fixed")
TYPE = "operator.run_reinstated"


@pytest.mark.parametrize("name", sorted(EVENT_CLASSES))
def test_an_event_has_a_golden_line(name: str) -> None:
    """The bytes of an event never change; a new shape needs a new version and an upcaster."""
    path = GOLDEN / f"{name}.v{SCHEMAS[name]}.json"
    line = encode(SAMPLES[name])
    assert path.exists(), f"add {path.relative_to(HERE.parent.parent)} with this line:\n{line}"
    assert path.read_text(encoding="utf-8").removesuffix("\n") == line


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_a_golden_line_of_any_age_is_still_read(path: Path) -> None:
    name, _, version = path.stem.rpartition(".v")
    line = path.read_text(encoding="utf-8").removesuffix("\n")
    event = decode(line, event_type=name, schema=int(version), pos=1)
    assert codec.event_type(type(event)) == name
    if int(version) == SCHEMAS[name]:
        assert encode(event) == line
        assert decode_page([(1, 0, name, int(version), line)]) == [event]


def refused(data: str, *, kind: str = TYPE, schema: int = 1) -> UnknownEvent:
    with pytest.raises(UnknownEvent) as one:
        decode(data, event_type=kind, schema=schema, pos=7)
    page = [(6, 0, TYPE, 1, encode(EVENT)), (7, 0, kind, schema, data)]
    with pytest.raises(UnknownEvent) as many:
        decode_page(page)
    assert str(many.value) == str(one.value)
    return one.value


@pytest.mark.parametrize(
    ("data", "kind", "schema"),
    [
        (encode(EVENT), "operator.made_up", 1),
        (encode(EVENT), TYPE, 2),
        (encode(EVENT)[:-1] + ',"new_field":1}', TYPE, 1),
        (encode(EVENT).replace('"generation":2', '"generation":"two"'), TYPE, 1),
        (encode(EVENT).replace(',"why":"fixed"', ""), TYPE, 1),
        (encode(EVENT)[:-1], TYPE, 1),
        ("", TYPE, 1),
        ("[]", TYPE, 1),
        ("null", TYPE, 1),
        (encode(EVENT), TYPE, 0),
        (encode(EVENT), "operator.breaker_reset", SCHEMAS["operator.breaker_reset"]),
        (f"{encode(EVENT)},{encode(EVENT)}", TYPE, 1),
    ],
)
def test_what_cannot_be_read_is_refused_at_its_position(data: str, kind: str, schema: int) -> None:
    error = refused(data, kind=kind, schema=schema)
    assert "position 7" in error.problem
    assert kind in error.problem
    assert "upgrade runoff" in error.remedy
    assert "--at 7" in error.remedy
    assert error.exit_code == 5


def test_an_event_may_have_256_kib_and_no_byte_more() -> None:
    def event(size: int) -> RunReinstated:
        return msgspec.structs.replace(EVENT, why="x" * size)

    room = EVENT_BYTES_MAX - len(encode(event(0)))
    assert len(encode(event(room))) == EVENT_BYTES_MAX == 256 * 1024
    with pytest.raises(UsageProblem, match=TYPE):
        encode(event(room + 1))
    with pytest.raises(UsageProblem, match=str(EVENT_BYTES_MAX)):
        encode(event(room - 1).__class__(run_id="é" * room, generation=1, by="", why=""))


def test_an_older_shape_is_upcast_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def renamed(fields: dict[str, Any]) -> dict[str, Any]:
        return {("why" if name == "cause" else name): value for name, value in fields.items()}

    def counted(fields: dict[str, Any]) -> dict[str, Any]:
        return {**fields, "generation": len(fields["why"])}

    monkeypatch.setattr(codec, "SCHEMAS", {**SCHEMAS, TYPE: 3})
    monkeypatch.setattr(codec, "UPCASTERS", {(TYPE, 1): renamed, (TYPE, 2): counted})
    oldest = '{"type":"operator.run_reinstated","run_id":"r","by":"ann","cause":"fixed"}'
    older = oldest.replace("cause", "why")
    current = encode(msgspec.structs.replace(EVENT, generation=5))
    page = [(1, 0, TYPE, 1, oldest), (2, 0, TYPE, 2, older), (3, 0, TYPE, 3, current)]
    events = decode_page(page)
    assert [encode(event) for event in events] == [current] * 3


def test_a_missing_link_in_the_chain_of_upcasters_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "SCHEMAS", {**SCHEMAS, TYPE: 2})
    monkeypatch.setattr(codec, "UPCASTERS", {})
    with pytest.raises(UnknownEvent, match=r"position 7 .* nothing here upcasts"):
        decode(encode(EVENT), event_type=TYPE, schema=1, pos=7)


@pytest.mark.parametrize("shape", ["[]", "null", "7", "{}", ""])
def test_an_older_event_that_lacks_what_its_upcaster_needs_is_refused(
    monkeypatch: pytest.MonkeyPatch, shape: str
) -> None:
    def reads(fields: dict[str, Any]) -> dict[str, Any]:
        return {**fields, "why": fields["cause"]}

    monkeypatch.setattr(codec, "SCHEMAS", {**SCHEMAS, TYPE: 2})
    monkeypatch.setattr(codec, "UPCASTERS", {(TYPE, 1): reads})
    with pytest.raises(UnknownEvent, match="position 7"):
        decode(shape, event_type=TYPE, schema=1, pos=7)


def test_no_two_rows_of_columns_hash_alike() -> None:
    rows: list[tuple[str | int | bytes | None, ...]] = [
        ("ab", "c"),
        ("a", "bc"),
        ("abc",),
        (b"ab", "c"),
        ("1",),
        (1,),
        (None,),
        ("",),
        (b"",),
        (),
        ("n;",),
        (None, None),
        (-1,),
        (11,),
        (1, 1),
    ]
    hashes = {chain_hash(GENESIS, row) for row in rows}
    assert len(hashes) == len(rows)
    assert chain_hash(bytes(31) + b"\1", rows[0]) not in hashes
