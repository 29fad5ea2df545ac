"""A CSV of benchmarks against a tracked one: ratios within one run are gated, absolute numbers are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from deltamem_eval.errors import UserError
from deltamem_eval.files import write_atomic
from deltamem_eval.reports.regress.rules import Rule, Rules
from deltamem_eval.reports.regress.verdicts import RowVerdict, Verdict, Verdicts
from deltamem_eval.reports.regress.whole import check_whole, csv_lines
from deltamem_eval.reports.table import Cell, Column

Key = tuple[str, str, str]
KEYS = ("benchmark", "case", "metric")
_NUMBERS = ("median", "min", "max", "ratio", "ratio_min", "ratio_max", "target")
_NEEDED = (*KEYS, *_NUMBERS, "unit", "against", "machine")
_BETTER = 1.1  # a ratio so many times the baseline's is told
_ROUNDING = 1e-9
RATIO_COLUMNS = (
    Column("ratio_before", "baseline ratio", "ratio"),
    Column("ratio_after", "ratio [min, max]", "ratio", True),
    Column("target", "target", "ratio"),
    Column("against", "against"),
    Column("median_before", "baseline median", "ratio"),
    Column("median_after", "median [min, max]", "ratio"),
    Column("unit", "unit"),
)


@dataclass(frozen=True)
class Line:
    """One line of such a CSV. numbers: by column, None where the cell is empty."""

    numbers: Mapping[str, float | None]
    unit: str
    against: str
    machine: str

    @property
    def worth(self) -> float | None:
        """The median, so that more is better: a rate as it is, of anything else the inverse."""
        median = self.numbers["median"]
        return median if median is None or self.unit.endswith("/s") else 1 / median


def is_bench(path: Path) -> bool:
    """Whether a file is a CSV of benchmarks, by its first line."""
    try:
        with path.open(encoding="utf-8") as file:
            return file.readline().startswith(",".join(KEYS) + ",")
    except (OSError, UnicodeDecodeError):
        return False


def read_ratios(file: Path) -> dict[Key, Line]:
    """The lines by benchmark, case and metric. Raises UserError for no such CSV, or one that is not whole."""
    found = csv_lines(file)
    missing = [name for name in _NEEDED if not found or name not in found[0]]
    if missing:
        raise UserError(f"{file} is no CSV of benchmarks, or an empty one: it lacks {missing[0]}")
    lines: dict[Key, Line] = {}
    for number, cells in enumerate(found, 2):
        where = f"{file}, line {number}"
        check_whole(cells, where)
        key = (cells["benchmark"], cells["case"], cells["metric"])
        if key in lines:
            raise UserError(f"{where}: a second line of {', '.join(key)}")
        numbers = {name: _number(cells[name], name, where) for name in _NUMBERS}
        if numbers["median"] is None:
            raise UserError(f"{where}: median is no number above 0: ''")
        lines[key] = Line(numbers, cells["unit"], cells["against"], cells["machine"])
    return lines


def _number(text: str | None, name: str, where: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not isfinite(value) or value <= 0:
        raise UserError(f"{where}: {name} is no number above 0: {text!r}")
    return value


def judge_ratios(baseline: Path, runs: Sequence[Path], rules: Rules, *, subset: bool = False) -> Verdicts:
    """Hold one CSV against another. subset: lines that the run lacks were not asked for.

    A line without a ratio in the baseline is shown and not gated. Raises UserError where either is no such
    CSV, or they have no line in common.
    """
    before, after = read_ratios(baseline), read_ratios(_only(runs))
    if not before.keys() & after.keys():
        raise UserError(f"{baseline} and {runs[0]} have no line in common")
    rows = [_verdict(key, line, after.get(key), rules.rule) for key, line in before.items()]
    notes = [f"Baseline: {_machines(before)}. Run: {_machines(after)}."]
    vanished = [row for row in rows if row.verdict == "vanished"]
    if subset and vanished:
        rows = [row for row in rows if row.verdict != "vanished"]
        names = dict.fromkeys(row.key[0] for row in vanished)
        notes.append(f"Not checked (--subset), the run lacks {len(vanished)} lines of {', '.join(names)}.")
    rows += [
        RowVerdict(key, "new", None, None, cells=_cells(None, line))
        for key, line in after.items()
        if key not in before
    ]
    rows.sort(key=lambda row: not row.failed)
    return Verdicts(baseline, (), tuple(rows), tuple(notes), 0, ratios=True)


def _only(runs: Sequence[Path]) -> Path:
    if len(runs) != 1:
        raise UserError("a CSV of benchmarks is held against one other, not several: ratios are not pooled")
    return runs[0]


def _machines(lines: Mapping[Key, Line]) -> str:
    return "; ".join(dict.fromkeys(line.machine for line in lines.values()))


def _verdict(key: Key, before: Line, after: Line | None, rules: Sequence[Rule]) -> RowVerdict:
    if after is None:
        return RowVerdict(key, "vanished", None, None, cells=_cells(before, None))
    found = tuple(text for rule in rules if (text := _broken(rule, before, after)) is not None)
    old, new = before.numbers["ratio"], after.numbers["ratio"]
    verdict: Verdict = "holds"
    if found:
        verdict = "regression"
    elif old is None and not any(rule.metric == "median" for rule in rules):
        verdict = "not gated"
    elif old is not None and new is not None and new > _BETTER * old:
        verdict = "better"
    return RowVerdict(key, verdict, None, None, breaches=found, cells=_cells(before, after))


def _broken(rule: Rule, before: Line, after: Line) -> str | None:
    """What a broken rule found, in one line; what the baseline does not know is not held to anything."""
    if rule.metric == "target":
        ratio, target = after.numbers["ratio"], before.numbers["target"]
        if ratio is None or target is None or ratio >= target - (rule.limit or 0.0) - _ROUNDING:
            return None
        return f"ratio {ratio:.2f}, promised {target:g}"
    old, new = _worths(rule, before, after)
    if old is None:
        return None
    if new is None:
        return f"{rule.metric} is no longer known"
    if rule.kind == "exact":
        worse = abs(old - new) > _ROUNDING
    else:
        worse = old - new > (rule.limit or 0.0) * (old if rule.kind == "relative" else 1.0) + _ROUNDING
    if not worse:
        return None
    was, now = before.numbers[rule.metric], after.numbers[rule.metric]
    return f"{rule.metric} {was:.4g} → {now:.4g}, more than {_limit(rule)} worse"


def _worths(rule: Rule, before: Line, after: Line) -> tuple[float | None, float | None]:
    if rule.metric == "median":
        return before.worth, after.worth
    return before.numbers["ratio"], after.numbers["ratio"]


def _limit(rule: Rule) -> str:
    return f"{100 * (rule.limit or 0.0):g} %" if rule.kind == "relative" else f"{rule.limit or 0:g}"


def _cells(before: Line | None, after: Line | None) -> tuple[Cell, ...]:
    """As RATIO_COLUMNS."""
    either = after or before
    own = after.numbers if after is not None else {}
    old = before.numbers if before is not None else {}
    return (
        Cell(old.get("ratio")),
        Cell(own.get("ratio"), own.get("ratio_min"), own.get("ratio_max")),
        Cell((old or own).get("target")),
        Cell((either.against if either is not None else "") or None),
        Cell(old.get("median")),
        Cell(own.get("median"), own.get("min"), own.get("max")),
        Cell(either.unit if either is not None else None),
    )


def update_ratios(baseline: Path, runs: Sequence[Path]) -> tuple[Path]:
    """Put a CSV of benchmarks in the place of the tracked one.

    Raises UserError, writing nothing, where lines of the tracked one would be lost, or where it or the run is
    no such CSV.
    """
    made = read_ratios(_only(runs))
    lost = [key for key in (read_ratios(baseline) if baseline.exists() else {}) if key not in made]
    if lost:
        raise UserError(f"{len(lost)} lines of {baseline} would be lost ({', '.join(lost[0])}...)")
    try:
        write_atomic(baseline, runs[0].read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot write to {baseline}: {error.strerror or error}") from None
    return (baseline,)
