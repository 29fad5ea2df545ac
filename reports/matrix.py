"""The result table turned: a line for each method, window and task, a column for each category or source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from deltamem_eval.reports.averages import unjudged_notes
from deltamem_eval.reports.groups import BREAKDOWNS, controls_of, load_groups
from deltamem_eval.reports.summary import summary_table
from deltamem_eval.reports.table import Cell, Column, Table
from deltamem_eval.reports.unfinished import partial_notes

ALPHA = 0.05
_NOTE = (
    f"▲, ▼: above or below vanilla at the same window, p < {ALPHA} by the sign-flip test over contexts, "
    "Holm-adjusted over this table's cells in which anything differs."
)


def matrix_table(paths: Sequence[Path], by: str = "category") -> Table:
    """Accuracy with its interval by method, window and one breakdown. Raises UserError as `summary_table`."""
    long = summary_table(paths, (by,))
    keys = [column.key for column in long.columns]
    heads = [key for key in ("method", "window", "task") if key in keys and key != by]
    values = list(dict.fromkeys(str(row[keys.index(by)].value) for row in long.rows))
    lines: dict[tuple[str, ...], dict[str, Cell]] = {}
    for row in long.rows:
        named = dict(zip(keys, row, strict=True))
        line = lines.setdefault(tuple(str(named[key].value) for key in heads), {})
        line[str(named[by].value)] = replace(named["accuracy"], mark=_mark(named))
    columns = (
        *(Column(key, key) for key in heads),
        *(Column(value, f"{value} % [95 %]", "percent", True) for value in values),
    )
    rows = tuple(
        (*map(Cell, names), *(line.get(value, Cell(None)) for value in values))
        for names, line in lines.items()
    )
    return Table(
        f"Accuracy by {BREAKDOWNS[by]}",
        columns,
        rows,
        long.caption,
        (long.footnotes[0], _NOTE, *unjudged_notes(load_groups(paths)[0]), *partial_notes(paths)),
        name=f"accuracy-by-{by.replace('_', '-')}",
        within=tuple(heads[1:]),
        aside=controls_of(rows),
    )


def _mark(named: dict[str, Cell]) -> str:
    p_value, difference = named["p_vanilla"].value, named["over_vanilla"].value
    if not isinstance(p_value, float) or not isinstance(difference, float) or p_value >= ALPHA:
        return ""
    return "▲" if difference > 0 else "▼"
