"""The tables of a verdict: every row with what the rules say, and the questions that flipped."""

from __future__ import annotations

from collections.abc import Sequence

from deltamem_eval.reports.compare.tables import both, columns_of, flips_table, statistics_of
from deltamem_eval.reports.regress.ratios import KEYS, RATIO_COLUMNS
from deltamem_eval.reports.regress.verdicts import RowVerdict, Verdicts
from deltamem_eval.reports.table import Cell, Column, Table


def verdict_table(found: Verdicts, rows: Sequence[RowVerdict] | None = None) -> Table:
    """One line a row: verdict, both accuracies, the difference, what was won and lost, which rules broke.

    rows: those to show, by default all.
    """
    if found.ratios:
        return _of_ratios(found, found.rows if rows is None else rows)
    compared = sum(row.difference is not None for row in found.rows)
    columns = (
        *columns_of(found.by),
        Column("verdict", "verdict"),
        Column("n", "questions", "count"),
        Column("contexts", "contexts", "count"),
        Column("before", "baseline %", "percent"),
        Column("after", "run %", "percent"),
        Column("difference", "difference [95 %]", "points", True),
        Column("p_holm", "p (Holm)", "probability", False),
        Column("won", "won", "count"),
        Column("lost", "lost", "count"),
        Column("detectable", "detectable", "points"),
        Column("broken", "broken rules"),
    )
    return Table(
        "Run against baseline",
        columns,
        tuple(_row(row) for row in (found.rows if rows is None else rows)),
        f"{found.baseline}: {found.summary}.{found.judges}",
        (statistics_of(found.seed, compared), *found.notes),
        name="regress",
    )


def _of_ratios(found: Verdicts, rows: Sequence[RowVerdict]) -> Table:
    columns = (
        *map(Column, KEYS, KEYS),
        Column("verdict", "verdict"),
        *RATIO_COLUMNS,
        Column("broken", "broken rules"),
    )
    made = tuple(
        (*map(Cell, row.key), Cell(row.verdict), *(row.cells or ()), Cell("; ".join(row.breaches) or None))
        for row in rows
    )
    caption = f"{found.baseline}: {found.summary}."
    return Table("Ratios against baseline", columns, made, caption, found.notes, name="regress")


def _row(row: RowVerdict) -> tuple[Cell, ...]:
    head = (*(Cell(part) for part in row.key), Cell(row.verdict))
    found = row.difference
    if found is None:
        nothing = (Cell(None),) * 6
        return (*head, Cell(None), Cell(None), Cell(row.before), Cell(row.after), *nothing)
    interval = found.interval
    return (
        *head,
        both(found.n),
        both(found.contexts),
        Cell(row.before),
        Cell(row.after),
        Cell(interval.estimate, interval.low, interval.high, interval.n),
        Cell(found.adjusted),
        Cell(found.won if found.pairs else None),
        Cell(found.lost if found.pairs else None),
        Cell(found.detectable),
        Cell("; ".join(row.breaches) or None),
    )


def flipped(found: Verdicts, most: int | None = None) -> Table:
    """The flipped questions of the rows that regressed; of every row where none did."""
    rows = found.failed or found.rows
    differences = [row.difference for row in rows if row.difference is not None]
    return flips_table(differences, found.by, most, ("baseline", "run"))
