"""The estimator: how many tokens of output a phase will take, and how many it may.

An estimate is right in the middle, a budget holds nearly always; they are two outputs.
"""

from __future__ import annotations

import hashlib
import math
import re
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import NamedTuple

import msgspec

from engine.calibration.samples import fold_category, fold_complexity
from engine.errors import UsageProblem
from engine.prebuilt import prebuilt
from engine.toml_text import has_too_many_dots

SHIPPED = "1"
"""The version of the coefficients that this program ships and goes by unless told otherwise."""

COEFFICIENTS_BYTES_MAX = 64 * 1024
_DOTS_PER_LINE_MAX = 16
DEFAULT = "default"
COEFFICIENT_MAX = 1e9
FACTOR_MAX = 1e6
KEYS_MAX = 2000
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
REMEDY = "`runoff coefficients show --toml` shows a whole file."


class Coefficients(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What estimates are made from.

    ``base``: tokens by complexity; ``per_deliverable``: tokens by category; ``reserve``: the budget
    as a multiple of the estimate, by complexity; each has a ``default``.  ``multipliers``: of the
    whole estimate, by ``category/complexity``; 1 for a group that is not named.
    """

    version: str
    base: dict[str, float]
    per_deliverable: dict[str, float]
    reserve: dict[str, float]
    budget_min: int
    budget_max: int
    multipliers: dict[str, float] = {}

    @property
    def json(self) -> str:
        """All of them as canonical JSON."""
        return msgspec.json.encode(self, order="deterministic").decode()

    @property
    def sha256(self) -> str:
        """The identity of all of them, in hexadecimal."""
        return hashlib.sha256(self.json.encode()).hexdigest()

    def multiplier(self, category: str, complexity: str) -> float:
        """The multiplier in force for a group."""
        return self.multipliers.get(f"{category}/{complexity}", 1.0)


class Estimate(NamedTuple):
    """An estimate, the budget, and all that they were made from; tokens of output."""

    category: str
    complexity: str
    deliverables: int
    base_tokens: float
    per_deliverable_tokens: float
    multiplier: float
    reserve: float
    estimated_tokens: int
    budget_tokens: int
    coefficient_version: str

    @property
    def sentence(self) -> str:
        """How it came about, for a person."""
        times = "" if self.multiplier == 1 else f", times {self.multiplier:g} for its group"
        return (
            f"{self.estimated_tokens} tokens: {self.base_tokens:g} for complexity"
            f" {self.complexity}, and {self.deliverables} × {self.per_deliverable_tokens:g} for"
            f" deliverables of category {self.category}{times}. It may take {self._allowance}"
            f" coefficients {self.coefficient_version}."
        )

    @property
    def _allowance(self) -> str:
        wanted = _wanted(self.estimated_tokens, self.reserve)
        if self.budget_tokens == wanted:
            return f"{wanted}: {self.reserve:g} times as much, within the limits of"
        limit = "the most" if self.budget_tokens < wanted else "the least"
        return (
            f"{self.budget_tokens}, {limit} that there is, instead of {wanted}"
            f" ({self.reserve:g} times as much), by the limits of"
        )


def estimate(
    coefficients: Coefficients, category: str | None, complexity: str | None, deliverables: int
) -> Estimate:
    """What a phase of this kind will take; one without deliverables counts as having one."""
    category, complexity = fold_category(category), fold_complexity(complexity)
    count = max(1, deliverables)
    base = _of(coefficients.base, complexity)
    each = _of(coefficients.per_deliverable, category)
    multiplier = coefficients.multiplier(category, complexity)
    reserve = _of(coefficients.reserve, complexity)
    estimated = max(1, round((base + each * count) * multiplier))
    wanted = _wanted(estimated, reserve)
    return Estimate(
        category,
        complexity,
        count,
        base,
        each,
        multiplier,
        reserve,
        estimated,
        min(max(wanted, coefficients.budget_min), coefficients.budget_max),
        coefficients.version,
    )


def _wanted(estimated: int, reserve: float) -> int:
    """The budget before it is held within the limits."""
    return math.ceil(estimated * reserve)


def _of(table: Mapping[str, float], word: str) -> float:
    return table.get(word, table[DEFAULT])


@cache
def shipped() -> Coefficients:
    """The coefficients that this version ships; read once."""
    return coefficients_from_toml(shipped_toml(), f"coefficients {SHIPPED}")


def shipped_toml() -> str:
    """Their file."""
    folder = resources.files("engine.calibration").joinpath("coefficients")
    return folder.joinpath(f"{SHIPPED}.toml").read_text("utf-8")


def coefficients_from_json(text: str, origin: str = "the coefficients in the log") -> Coefficients:
    """Coefficients as the log has them; ``origin`` names them in errors.

    Raises UsageProblem when they cannot be read here.
    """
    try:
        return _checked(msgspec.json.decode(text, type=Coefficients), origin)
    except msgspec.MsgspecError as error:
        raise _problem(origin, str(error)) from None


def coefficients_from_toml(text: str, origin: str) -> Coefficients:
    """The coefficients in a file; ``origin`` names it in errors.

    Raises UsageProblem for anything but a whole file of usable numbers.
    """
    if has_too_many_dots(text, _DOTS_PER_LINE_MAX):
        raise _problem(origin, f"has a line with more than {_DOTS_PER_LINE_MAX} dots")
    try:
        found = msgspec.convert(tomllib.loads(text), Coefficients)
    except msgspec.ValidationError as error:
        raise _problem(origin, str(error)) from None
    except RecursionError:
        raise _problem(origin, "is nested too deeply") from None
    except ValueError as error:
        raise _problem(origin, f"is not TOML: {str(error)[:200]!a}") from None
    _check_keys(found, origin)
    return _checked(found, origin)


def _check_keys(found: Coefficients, origin: str) -> None:
    """Refuse words that no phase is looked up by.

    Of files only: what the log has of such was gone by as it is, and an audit goes by it again.
    """
    for name in ("base", "reserve"):
        for key in getattr(found, name):
            _check_key(name, key, fold_complexity(key), origin)
    for key in found.per_deliverable:
        _check_key("per_deliverable", key, fold_category(key), origin)
    for key in found.multipliers:
        if "/" not in key:
            raise _problem(origin, f"multipliers.{key[:80]!a}: expected category/complexity")
        _check_key("multipliers", key, _folded_group(key), origin)


def _folded_group(key: str) -> str:
    """The group that a key means; the key itself where either word may hold a slash of its own."""
    cuts = [at for at, character in enumerate(key) if character == "/"]
    found = [f"{fold_category(key[:at])}/{fold_complexity(key[at + 1 :])}" for at in cuts]
    return key if key in found else found[-1]


def _check_key(name: str, key: str, folded: str, origin: str) -> None:
    if key != folded:
        raise _problem(origin, f"{name}.{key[:80]!a}: write {ascii(folded[:80])[1:-1]}")


def _checked(found: Coefficients, origin: str) -> Coefficients:
    if not _VERSION.fullmatch(found.version):
        problem = "version: expected 1 to 64 of the characters A-Z, a-z, 0-9, '.', '_' and '-'"
        raise _problem(origin, problem)
    for name, least, most in (
        ("base", 0.0, COEFFICIENT_MAX),
        ("per_deliverable", 0.0, COEFFICIENT_MAX),
        ("reserve", 1.0, FACTOR_MAX),
        ("multipliers", 1 / FACTOR_MAX, FACTOR_MAX),
    ):
        _check_table(getattr(found, name), name, (least, most), origin)
    if not 1 <= found.budget_min <= found.budget_max <= COEFFICIENT_MAX:
        raise _problem(origin, "budget_min and budget_max: expected 1 ≤ min ≤ max ≤ 1000000000")
    return found


def _check_table(
    table: Mapping[str, float], name: str, limits: tuple[float, float], origin: str
) -> None:
    if len(table) > KEYS_MAX:
        raise _problem(origin, f"{name}: has more than {KEYS_MAX} keys")
    if name != "multipliers" and DEFAULT not in table:
        raise _problem(origin, f"{name}: has no {DEFAULT}")
    least, most = limits
    for key, value in table.items():
        if not least <= value <= most:
            raise _problem(origin, f"{name}.{key[:80]!a}: expected {least:g} to {most:g}")


def _problem(origin: str, problem: str) -> UsageProblem:
    return UsageProblem(f"{origin}: {problem}.", remedy=REMEDY)


prebuilt(Coefficients)
