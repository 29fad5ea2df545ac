"""The tables of a comparison: the differences, and the questions that flipped."""

from __future__ import annotations

from collections.abc import Sequence

from deltamem_eval.reports.compare.comparison import Comparison
from deltamem_eval.reports.compare.difference import Difference
from deltamem_eval.reports.compare.pairing import Pair
from deltamem_eval.reports.compare.rows import Key
from deltamem_eval.reports.groups import BREAKDOWNS, accuracy_of
from deltamem_eval.reports.table import Cell, Column, Table
from deltamem_eval.stats import intervals_line, patterns_line

_LONGEST = 120  # characters of a question or an answer in a table
_TESTS = (
    " p: two-sided; exact McNemar where every question has a context of its own, else the signs "
    "of whole contexts are flipped; whole contexts are shuffled where questions are not paired. {} Holm: "
    "over the rows in which anything differs. Detectable: the smallest true difference that this many "
    "questions would show at p < 0.05 in four of five tries, before Holm."
)


def statistics_of(seed: int, rows: int) -> str:
    """The footnote that says how intervals, p-values and detectable differences were had. rows: compared."""
    return intervals_line(seed) + _TESTS.format(patterns_line(rows))


def columns_of(by: Sequence[str]) -> tuple[Column, ...]:
    """The columns that name a row."""
    return (Column("method", "method"), Column("window", "window"), *(Column(n, BREAKDOWNS[n]) for n in by))


def comparison_table(found: Comparison) -> Table:
    """One line a row: both accuracies, the difference with its interval, p-values, who won how often."""
    columns = (
        *columns_of(found.by),
        Column("n", "questions", "count"),
        Column("contexts", "contexts", "count"),
        Column("a", "A %", "percent"),
        Column("b", "B %", "percent"),
        Column("difference", "B − A [95 %]", "points", True),
        Column("p", "p", "probability", False),
        Column("p_holm", "p (Holm)", "probability", False),
        Column("won", "B won", "count"),
        Column("lost", "B lost", "count"),
        Column("tied", "tied", "count"),
        Column("detectable", "detectable", "points"),
        Column("test", "test"),
    )
    how = "Paired by question" if found.paired else "Not paired: two samples of their own"
    return Table(
        "B against A",
        columns,
        tuple(_row(difference) for difference in found.differences),
        f"A: {found.a}; B: {found.b}. {how}.{found.judges}",
        (statistics_of(found.seed, len(found.differences)), *found.notes),
        name="comparison",
    )


def _row(found: Difference) -> tuple[Cell, ...]:
    paired = bool(found.pairs)
    return (
        *(Cell(part) for part in found.key),
        both(found.n),
        both(found.contexts),
        Cell(found.a),
        Cell(found.b),
        Cell(found.interval.estimate, found.interval.low, found.interval.high, found.interval.n),
        Cell(found.p.value),
        Cell(found.adjusted),
        Cell(found.won if paired else None),
        Cell(found.lost if paired else None),
        Cell(len(found.pairs) - found.won - found.lost if paired else None),
        Cell(found.detectable),
        Cell(found.p.test),
    )


def both(numbers: tuple[int | None, int | None]) -> Cell:
    """A count of either side, once where they agree or one is not known."""
    known = list(dict.fromkeys(number for number in numbers if number is not None))
    return Cell(known[0] if len(known) == 1 else ", ".join(map(str, known)) or None)


def flips_table(
    differences: Sequence[Difference],
    by: Sequence[str],
    most: int | None = None,
    sides: tuple[str, str] = ("A", "B"),
) -> Table:
    """The questions whose score differs, lost ones first in each row.

    most: shown in all, None for every one. sides: what the two runs are called.
    """
    flips = [(found.key, pair) for found in differences for pair in found.flips]
    columns = (
        *columns_of(by),
        Column("query", "question"),
        Column("wording", "as asked"),
        Column("targets", "wanted"),
        *(Column(key, f"{side} %", "percent") for key, side in zip("ab", sides, strict=True)),
        *(Column(f"answer_{key}", f"{side} answered") for key, side in zip("ab", sides, strict=True)),
    )
    shown = flips[:most]
    left = "" if len(shown) == len(flips) else f", the first {len(shown)} shown"
    return Table(
        "Flipped questions",
        columns,
        tuple(_flip(key, pair) for key, pair in shown),
        f"{len(flips)} questions scored otherwise{left}.",
        name="flips",
        foreign=frozenset({"query", "wording", "targets", "answer_a", "answer_b"}),
    )


def _flip(key: Key, pair: Pair) -> tuple[Cell, ...]:
    return (
        *(Cell(part) for part in key),
        Cell(pair.a.query),
        Cell(_short(pair.wording) or None),
        Cell(_short(" | ".join(pair.b.targets))),
        Cell(accuracy_of(pair.a)),
        Cell(accuracy_of(pair.b)),
        Cell(_answer(pair.a.status, pair.a.answer)),
        Cell(_answer(pair.b.status, pair.b.answer)),
    )


def _answer(status: str, text: str) -> str | None:
    return (_short(text) or None) if status == "ok" else f"({status})"


def _short(text: str) -> str:
    """On one line, and not too long for a table."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
