"""The numbers of a row that rules are about, from its samples or from a tracked table's line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from statistics import fmean

from deltamem_eval.errors import UserError
from deltamem_eval.reports.compare.rows import Key, Row
from deltamem_eval.reports.costs import answered, held, written
from deltamem_eval.reports.groups import BREAKDOWNS, accuracy_of
from deltamem_eval.reports.regress.whole import check_whole, csv_lines

Facts = Mapping[str, float | None]
_COSTS = ("added_parameters", "memory_bytes", "prompt_tokens", "write_seconds", "answer_seconds")
_UNJUDGED = re.compile(r"(\d+) unjudged\b")
_FAILED = re.compile(r"(\d+) (failed|oom|timeout|skipped)\b")


@dataclass(frozen=True)
class Line:
    """One line of a tracked table. interval: of the accuracy, None where it was printed without. n: its
    questions. unjudged: those whose accuracy is a token metric until they are judged.
    """

    facts: Facts
    interval: tuple[float, float] | None
    n: int
    unjudged: int = 0


def facts_of(row: Row) -> Facts:
    """A row's numbers: means over its questions or, of memory and writing, over its contexts; and how many
    questions did not end well. Costs are those of questions that did, None where none did.
    """
    samples, answers = [sample for _, sample in row.members], answered(row.members)
    return {
        "accuracy": fmean(accuracy_of(sample) for sample in samples),
        "not_ok": float(sum(sample.status != "ok" for sample in samples)),
        "added_parameters": row.group.effective.get("overhead", {}).get("trainable"),
        "memory_bytes": _mean(held(row.members)),
        "prompt_tokens": _mean([sample.prompt_tokens for sample in answers]),
        "write_seconds": _mean([sample.write_seconds for sample in written(row.members)]),
        "answer_seconds": _mean([sample.answer_seconds for sample in answers]),
    }


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def read_lines(file: Path) -> tuple[tuple[str, ...], dict[Key, Line]]:
    """A table as `report --format csv` prints it: its breakdown's names, and its lines by key.

    Raises UserError for a file that is no such table or not whole, and for a number that is none.
    """
    found = csv_lines(file)
    heads = list(found[0]) if found else []
    if heads[:2] != ["method", "window"] or "accuracy" not in heads:
        raise UserError(f"{file} is no table of `report --format csv`, or an empty one")
    by = tuple(heads[2 : heads.index("accuracy")])
    if unknown := [name for name in by if name not in BREAKDOWNS]:
        raise UserError(f"{file}: no breakdown {unknown[0]!r}: there are {', '.join(BREAKDOWNS)}")
    lines: dict[Key, Line] = {}
    for number, cells in enumerate(found, 2):
        where = f"{file}, line {number}"
        check_whole(cells, where)
        key = tuple(str(cells[name]) for name in ("method", "window", *by))
        if key in lines:
            raise UserError(f"{where}: a second line of {', '.join(key)}")
        lines[key] = _line(cells, where)
    return by, lines


def _line(cells: Mapping[str, str | None], where: str) -> Line:
    accuracy, n = _number(cells, "accuracy", where), _number(cells, "accuracy_n", where)
    if accuracy is None or not n:
        raise UserError(f"{where}: accuracy needs a value and its number of questions")
    low, high = _number(cells, "accuracy_low", where), _number(cells, "accuracy_high", where)
    failed = sum(int(count) for count, _ in _FAILED.findall(cells.get("not_ok") or ""))
    unjudged = sum(int(count) for count in _UNJUDGED.findall(cells.get("not_ok") or ""))
    facts = {name: _number(cells, name, where) for name in _COSTS}
    interval = None if low is None or high is None else (low, high)
    return Line({"accuracy": accuracy, "not_ok": float(failed), **facts}, interval, int(n), unjudged)


def _number(cells: Mapping[str, str | None], name: str, where: str) -> float | None:
    """A cell's number, None where it is empty."""
    text = cells.get(name)
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not isfinite(value):
        raise UserError(f"{where}: {name} is no number: {text!r}")
    return value
