"""A limit to how long a method may take for one thing."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from deltamem_eval.errors import UserError

_AGAIN = 5.0  # seconds after which it rings again: the first may sound where Python swallows what is raised
MOST_SECONDS = 2_000_000  # 23 days: polls count milliseconds in 32 bits, which hold no more than 24.8
_TOO_LATE = re.compile(r" within (\d+(?:\.\d+)?(?:e[+-]\d+)?) s$")


class TimeIsUp(BaseException):
    """The limit was reached. No `Exception`, so that a method's own handlers do not take it for an error."""


@contextmanager
def limit(seconds: float | None) -> Iterator[None]:
    """Raises TimeIsUp within the block once it took so many seconds; None for no limit.

    A signal interrupts it, in the main thread: a single call into compiled code is not cut short, its end is
    waited for. Raises UserError where signals cannot be had.
    """
    if seconds is None:
        yield
        return
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        raise UserError("--timeout needs POSIX signals in the main thread: leave it out here")

    def ring(_: int, __: FrameType | None) -> None:
        raise TimeIsUp

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
        yield
    finally:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0)
        finally:  # it may ring just now
            signal.signal(signal.SIGALRM, before)


def check_timeout(seconds: float | None) -> None:
    """Raises UserError for a limit that is no positive number of seconds, or more than can be waited for."""
    if seconds is not None and not 0 < seconds <= MOST_SECONDS:
        raise UserError(
            f"--timeout must be a number above 0 and at most {MOST_SECONDS:,} seconds, not {seconds}"
        )


def too_late(what: str, seconds: float) -> str:
    """The error of a question that ran out of time."""
    return f"{what} within {seconds:g} s"


def ran_out_of_less(error: str | None, seconds: float | None) -> bool:
    """Whether `too_late` told of a shorter limit than `seconds`; None is longer than any.

    Limits are compared as the error shows them. An error of other words names no limit of ours: False.
    """
    found = _TOO_LATE.search(error or "")
    if found is None:
        return False
    return seconds is None or float(found[1]) < float(f"{seconds:g}")
