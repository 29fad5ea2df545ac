"""Checking of a method's or a task's options against its defaults."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from deltamem_eval.errors import UserError, unknown


def check_names(owner: str, known: Iterable[str], given: Iterable[str]) -> None:
    """Raises UserError for a given option that is not a known one of `owner`."""
    known = set(known)
    for name in given:
        if name not in known:
            raise unknown(f"option of {owner}", name, known)


def merge_options(method: str, defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """`defaults` overridden by `given`. Raises UserError for an unknown name or a value of another type."""
    check_names(method, defaults, given)
    merged = dict(defaults)
    for name, given_value in given.items():
        value = given_value
        default = defaults[name]
        if isinstance(default, str) and isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)  # a text that happens to be a number
        if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if default is not None and type(value) is not type(default):
            raise UserError(f"option {name} of {method} must be {type(default).__name__}, not {value!r}")
        merged[name] = value
    return merged


def check_least(owner: str, options: Mapping[str, Any], least: Mapping[str, int]) -> None:
    """Raises UserError for an option of `owner` that is below its least value."""
    for name, bound in least.items():
        if options[name] < bound:
            raise UserError(f"option {name} of {owner} must be at least {bound}, not {options[name]}")
