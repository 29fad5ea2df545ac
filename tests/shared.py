"""Where reference data lie that are not part of the project."""

import copy
import os
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("DELTAMEM_EVAL_SHARED", ROOT.parent / "shared"))


def shared(*parts: str) -> Path:
    """A path among the reference data; skips the test where it is absent."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"reference data absent: {'/'.join(parts)}")
    return path


def changed(value: Any, *path: Any, to: Any = None, drop: bool = False) -> Any:
    """A copy of nested lists and objects with the field at `path` replaced or removed."""
    made = copy.deepcopy(value)
    place = made
    for step in path[:-1]:
        place = place[step]
    if drop:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    return made
