"""Calls made beside the work that asks for them, in their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

LEAD = 8  # calls that may be waiting; a process that is killed has lost no more


class Aside(AbstractContextManager["Aside"]):
    """Makes calls on one thread, or at once and in this one where `thread` is false.

    After a call that raised, no other is made, and its error is raised from the next `do` or on leaving.
    """

    def __init__(self, thread: bool) -> None:
        self._pool = ThreadPoolExecutor(1, "aside") if thread else None
        self._waiting: deque[Future[None]] = deque()
        self._error: BaseException | None = None

    def do(self, call: Callable[..., None], *arguments: Any) -> None:
        """Make a call; it may still be under way when this returns."""
        if self._pool is None:
            call(*arguments)
            return
        self._waiting.append(self._pool.submit(self._unless_failed, call, arguments))
        while len(self._waiting) > LEAD or (self._waiting and self._waiting[0].done()):
            self._waiting.popleft().result()

    def _unless_failed(self, call: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if self._error is not None:
            return
        try:
            call(*arguments)
        except BaseException as error:
            self._error = error
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for all calls. Raises what one raised, unless an error is on its way already."""
        if self._pool is None:
            return
        self._pool.shutdown()
        if self._error is not None and error is None:
            raise self._error
