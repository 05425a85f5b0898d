"""What a line of JSON may hold, once it is read."""

from __future__ import annotations

from typing import TypeAlias

Tree: TypeAlias = "str | float | bool | list[Tree] | dict[str, Tree] | None"
