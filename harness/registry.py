"""Finding methods and tasks through entry points, ours and other packages' alike."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from deltamem_eval.errors import UserError, unknown
from deltamem_eval.interface import MemoryMethod, Task

T = TypeVar("T")


@dataclass(frozen=True)
class Listed:
    """One name of a registry: where it comes from, its summary, and the error that broke it, if any."""

    name: str
    package: str
    summary: str
    error: str | None


class Registry(Generic[T]):
    """The classes registered under one entry-point group; each is imported when it is asked for."""

    def __init__(self, kind: str, base: type[T]) -> None:
        self._kind = kind
        self._base = base
        self._group = f"deltamem_eval.{kind}s"

    def _points(self) -> dict[str, EntryPoint]:
        return _points_of(self._group)

    def names(self) -> list[str]:
        """Every registered name, sorted."""
        return sorted(self._points())

    def load(self, name: str) -> type[T]:
        """The class of that name. Raises UserError for an unknown name or a plug-in that does not import."""
        points = self._points()
        if name not in points:
            raise unknown(self._kind, name, points)
        try:
            found = points[name].load()
        except Exception as error:  # a plug-in may raise anything
            raise UserError(
                f"{self._kind} '{name}' is broken: {type(error).__name__}: {_line(error)}"
            ) from error
        if not (isinstance(found, type) and issubclass(found, self._base)):
            raise UserError(
                f"{self._kind} '{name}' is broken: {points[name].value} is no {self._base.__name__}"
            )
        return found

    def listing(self) -> list[Listed]:
        """Every name with its summary; a broken plug-in carries its error and stops nobody."""
        rows = []
        for name, point in sorted(self._points().items()):
            package = point.dist.name if point.dist else ""
            try:
                summary, error = str(getattr(self.load(name), "summary", "")), None
            except UserError as broken:
                summary, error = "", str(broken)
            rows.append(Listed(name, package, summary, error))
        return rows


@cache
def _points_of(group: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=group)}


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0]


METHODS: Registry[MemoryMethod] = Registry("method", MemoryMethod)  # type: ignore[type-abstract]
TASKS: Registry[Task] = Registry("task", Task)  # type: ignore[type-abstract]
