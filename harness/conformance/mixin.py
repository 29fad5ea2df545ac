"""The checks as a pytest mix-in: subclass it, give a subject, and each check is a test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deltamem_eval.conformance.checks import CHECKS, NotApplicableError
from deltamem_eval.conformance.subject import Subject


class MethodChecks:
    """Subclass as `TestMyMethod(MethodChecks)` and set `subject`; pytest then runs every check by name."""

    subject: Subject

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, check in CHECKS.items():
            setattr(cls, f"test_{name.replace('-', '_')}", _test(check))


def _test(check: Callable[[Subject], None]) -> Callable[[MethodChecks], None]:
    def test(self: MethodChecks) -> None:
        import pytest

        try:
            check(self.subject)
        except NotApplicableError as reason:
            pytest.skip(str(reason))

    test.__doc__ = check.__doc__
    return test
