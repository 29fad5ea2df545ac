"""Where reference data lie that are not part of the project."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("DELTAMEM_EVAL_SHARED", ROOT.parent / "shared"))


def shared(*parts: str) -> Path:
    """A path among the reference data; skips the test where it is absent."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"reference data absent: {'/'.join(parts)}")
    return path
