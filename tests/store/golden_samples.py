"""A sample of every event type, made from the types of its fields alone."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from engine.events import AnyEvent
from engine.events.codec import EVENT_CLASSES


def sample(kind: type[msgspec.Struct]) -> Any:
    """An instance with every field set: texts hold their field's name, numbers its place."""
    hints = get_type_hints(kind)
    return kind(
        **{
            name: _value(hints[name], name, place)
            for place, name in enumerate(kind.__struct_fields__, 1)
        }
    )


def _value(hint: Any, name: str, place: int) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return arguments[0]
    if origin in (Union, types.UnionType):
        return _value(arguments[0], name, place)
    if origin is tuple:
        return (_value(arguments[0], name, place),)
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return sample(hint)
    simple: Mapping[Any, Any] = {
        str: f'{name} "é\n</b>',
        int: place,
        float: place / 8,
        bool: True,
    }
    return simple[hint]


SAMPLES: Mapping[str, AnyEvent] = {name: sample(kind) for name, kind in EVENT_CLASSES.items()}
