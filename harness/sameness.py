"""Whether work that goes on in a folder is what began there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deltamem_eval.errors import UserError

_ASKED = ("method", "control", "task", "window", "seed", "options", "limit")  # of a cell's identity


def same_request(path: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Raises UserError, naming what differs, where the folder `path` was made by another request."""
    fields = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
    if fields:
        name = fields[0]
        raise UserError(
            f"{path} was made by other settings ({', '.join(fields)} differ: {name} was "
            f"{old.get(name)!r}, is {new.get(name)!r}): choose another --out"
        )


def check_unmixed(path: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Raises UserError where two cells of one folder are of the same request and still not the same."""
    if any(old.get(name) != new.get(name) for name in _ASKED):
        return
    fields = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
    if fields:
        raise UserError(
            f"{path} was answered with other {', '.join(fields)} than now (a file, model or version has "
            "changed since): choose another --out, or remove it"
        )
