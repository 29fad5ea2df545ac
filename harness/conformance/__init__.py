"""What every memory method promises, as checks that a plug-in's author can run.

`deltamem-eval check NAME` runs them from the command line; `MethodChecks` is a pytest mix-in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deltamem_eval.conformance.mixin import MethodChecks
    from deltamem_eval.conformance.subject import Subject

__all__ = ["MethodChecks", "Subject"]


def __getattr__(name: str) -> Any:
    from importlib import import_module

    homes = {"MethodChecks": "mixin", "Subject": "subject"}
    if name not in homes:
        raise AttributeError(name)
    return getattr(import_module(f"{__name__}.{homes[name]}"), name)
