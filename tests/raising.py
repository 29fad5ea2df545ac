"""A plug-in that raises wherever a test wants it to."""

from __future__ import annotations

from typing import Any

import pytest
from deltamem_eval.methods.vanilla import Vanilla
from deltamem_eval.registry import METHODS


def breaking(stage: str, error: Exception | None = None) -> type[Vanilla]:
    """Vanilla under the name `toy`, one member of which raises; ZeroDivisionError where no error is given."""

    def raises(*_: Any, **__: Any) -> Any:
        raise error or ZeroDivisionError("no room")

    found = property(raises) if stage == "capacity" else raises
    return type("Toy", (Vanilla,), {"name": "toy", "trained": stage == "adapter_hash", stage: found})


def register(toy: type[Vanilla], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the toy loaded by its name."""
    real = METHODS.load
    monkeypatch.setattr(METHODS, "load", lambda name: toy if name == "toy" else real(name))
