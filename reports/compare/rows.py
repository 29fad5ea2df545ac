"""Rows to compare: one method at one window, by what the table is broken down by, with its questions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from deltamem_eval.errors import UserError, unknown
from deltamem_eval.reports.groups import BREAKDOWNS, Group, Members, accuracy_of, broken_down

Key = tuple[str, ...]
_NAMED = 3


@dataclass(frozen=True)
class Row:
    """The questions of a group that share the values of a breakdown, each with its task, data and seed."""

    group: Group
    values: tuple[str, ...]
    members: Members

    @property
    def key(self) -> Key:
        """Label, window and values: what the row is called in tables and tracked CSV files."""
        return (self.group.label, self.group.window_text, *self.values)

    @property
    def scores(self) -> list[float]:
        """Accuracy of each question, 0 to 1."""
        return [accuracy_of(sample) for _, sample in self.members]

    @property
    def clusters(self) -> list[str]:
        """Context of each question; contexts of two seeds are apart."""
        return [f"{scope}/{sample.cluster}" for scope, sample in self.members]


def rows_of(groups: Iterable[Group], by: Sequence[str]) -> dict[Key, Row]:
    """Every row of the groups, in the order of the result table.

    Raises UserError for an unknown breakdown, and for rows of several tasks that it does not tell apart.
    """
    for name in by:
        if name not in BREAKDOWNS:
            raise unknown("breakdown", name, BREAKDOWNS)
    found: dict[Key, Row] = {}
    for group in groups:
        for values, members in broken_down(group, tuple(by)):
            row = Row(group, values, members)
            if row.key in found:
                other = found[row.key].group.task
                raise UserError(
                    f"{name_of(row.key)} is a row of tasks {other} and {group.task}: break down by task too"
                )
            found[row.key] = row
    return found


def name_of(key: Key) -> str:
    """A row's key as people read it."""
    return ", ".join([key[0], key[1] if key[1] == "all that fits" else f"window {key[1]}", *key[2:]])


def listed(keys: Sequence[Key]) -> str:
    """The settings that rows belong to, the first of them by name."""
    names = list(dict.fromkeys(name_of(key[:2]) for key in keys))
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return "; ".join(names[:_NAMED]) + more
