"""Which cells of a table are the best and the second best of their column."""

from __future__ import annotations

from collections import defaultdict
from math import isfinite

from deltamem_eval.reports.table import Table, show

Ranks = dict[tuple[int, int], int]


def ranks(table: Table) -> Ranks:
    """1 for the best and 2 for the second best cell, by (row, column).

    Only columns that say which way is better are ranked, among rows that share the values of
    `table.within` and do not stand aside. Values that print alike rank alike; where all rows of a contest
    print alike, or there is one row alone, nobody wins.
    """
    found: Ranks = {}
    for contest in _contests(table):
        for column, described in enumerate(table.columns):
            if described.higher_is_better is not None:
                found |= _ranked(table, contest, column, described.higher_is_better)
    return found


def _contests(table: Table) -> list[list[int]]:
    keys = [index for index, column in enumerate(table.columns) if column.key in table.within]
    groups: defaultdict[tuple[object, ...], list[int]] = defaultdict(list)
    for number, row in enumerate(table.rows):
        if number not in table.aside:
            groups[tuple(row[key].value for key in keys)].append(number)
    return list(groups.values())


def _ranked(table: Table, contest: list[int], column: int, higher: bool) -> Ranks:
    printed: dict[int, tuple[float, str]] = {}
    for number in contest:
        cell = table.rows[number][column]
        if isinstance(cell.value, int | float) and isfinite(cell.value):
            plain = show(type(cell)(cell.value), table.columns[column].kind)
            printed[number] = float(cell.value), plain
    order = sorted(printed.values(), key=lambda item: item[0], reverse=higher)
    distinct = list(dict.fromkeys(text for _, text in order))
    if len(distinct) < 2:
        return {}
    places = {text: place for place, text in enumerate(distinct[:2], 1)}
    return {(number, column): places[text] for number, (_, text) in printed.items() if text in places}
