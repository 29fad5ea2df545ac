"""Checking of a method's options against its defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deltamem_eval.errors import UserError, unknown


def merge_options(method: str, defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """`defaults` overridden by `given`. Raises UserError for an unknown name or a value of another type."""
    merged = dict(defaults)
    for name, value in given.items():
        if name not in defaults:
            raise unknown(f"option of {method}", name, defaults)
        default = defaults[name]
        if default is not None and type(value) is not type(default):
            raise UserError(f"option {name} of {method} must be {type(default).__name__}, not {value!r}")
        merged[name] = value
    return merged
