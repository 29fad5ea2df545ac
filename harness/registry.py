"""Finding methods and tasks through entry points, ours and other packages' alike."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from deltamem_eval.errors import UserError, unknown
from deltamem_eval.interface import MemoryMethod, Task

T = TypeVar("T")
OURS = "deltamem-eval"


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

    def package(self, name: str) -> str:
        """The package that a registered name comes from, empty where that is not known."""
        point = self._points().get(name)
        return point.dist.name if point is not None and point.dist else ""

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
        return [*rows, *(self._shadowed(point) for point in _shadowed_of(self._group))]

    def _shadowed(self, point: EntryPoint) -> Listed:
        package = point.dist.name if point.dist else point.value
        taken = self.package(point.name) or "another package"
        error = f"{self._kind} '{point.name}' of {package} is not used: the name is {taken}'s"
        return Listed(point.name, package, "", error)


@cache
def _points_of(group: str) -> dict[str, EntryPoint]:
    """By name; a name that several packages give is ours, else the first package's by its name."""
    found: dict[str, EntryPoint] = {}
    for point in _all_points(group):
        found.setdefault(point.name, point)
    return found


def _shadowed_of(group: str) -> list[EntryPoint]:
    """Those of other packages under names that are taken."""
    used = _points_of(group)
    return [point for point in _all_points(group) if point.value != used[point.name].value]


def _all_points(group: str) -> list[EntryPoint]:
    points = [*entry_points(group=group)]
    return sorted(points, key=lambda point: (not _is_ours(point), point.dist.name if point.dist else ""))


def _is_ours(point: EntryPoint) -> bool:
    return point.value.startswith("deltamem_eval.") and (point.dist is None or point.dist.name == OURS)


def packages_of(methods: Iterable[str], task: str) -> list[str]:
    """The packages, other than ours, that methods and a task come from."""
    found = {*map(METHODS.package, methods), TASKS.package(task)}
    return sorted(found - {"", OURS})


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0]


METHODS: Registry[MemoryMethod] = Registry("method", MemoryMethod)  # type: ignore[type-abstract]
TASKS: Registry[Task] = Registry("task", Task)  # type: ignore[type-abstract]
