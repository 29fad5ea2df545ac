"""What every benchmark shares: timing in rounds, rows of one format, the printed table, the CSV.

A benchmark is a module with `rows()`: it checks its results against a reference first and raises `Wrong`
where they differ, and `Absent` where what it measures is not on this machine. `all.py` runs those it lists;
`standalone` makes a script of one. A case is named "WHAT: SIZES"; it is held against another WHAT.
"""

from __future__ import annotations

import csv
import io
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from deltamem_eval.reports.table import Table

Rows = Callable[[], Iterable["Row"]]
_THREADS = re.compile(r"\b\d+ threads\b")


class Wrong(Exception):  # noqa: N818 - it names a result, not a mistake of the program
    """A result is not the reference's: no speed of this benchmark may be told."""


class Absent(Exception):  # noqa: N818
    """What a benchmark measures is not on this machine, for example a GPU."""


@dataclass(frozen=True)
class Row:
    """One line of the table and of the CSV.

    median, min, max: of the metric over the rounds, in `unit`. ratio: how many times as fast as `against`, a
    case of the same benchmark that took turns with it, unless the benchmark says otherwise, in the median
    round: above 1 is faster, whether times or rates are shown; None for a row that others are held against,
    or that has nothing to be held against. ratio_min, ratio_max: of all rounds. target: the least ratio that
    is promised, None where nothing is. machine: the line that names it, where it is not that of the table.
    """

    benchmark: str
    case: str
    metric: str
    median: float
    min: float
    max: float
    unit: str
    ratio: float | None = None
    ratio_min: float | None = None
    ratio_max: float | None = None
    against: str = ""
    target: float | None = None
    repeats: int = 1
    machine: str = ""


def wall_seconds(work: Callable[[], object]) -> float:
    """Seconds of one call by this machine's clock."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def cuda_seconds(work: Callable[[], object]) -> float:
    """Seconds of one call on the CUDA device, from when it is through with what it was given before."""
    import torch

    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    began.record()
    work()
    ended.record()
    ended.synchronize()
    return 1e-3 * began.elapsed_time(ended)


def rounds(
    work: Mapping[str, Callable[[], object]],
    repeats: int,
    *,
    clock: Callable[[Callable[[], object]], float] = wall_seconds,
    warm_up: int = 1,
) -> dict[str, list[float]]:
    """Seconds of every piece of work in each round, after one round unmeasured, or `warm_up`.

    All take turns within a round, so that a slow moment of the machine meets them alike. clock: calls a piece
    once and gives its seconds.
    """
    for _ in range(warm_up):
        for call in work.values():
            call()
    taken: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(repeats):
        for name, call in work.items():
            taken[name].append(clock(call))
    return taken


def held_against(
    benchmark: str,
    seconds: Mapping[str, Sequence[float]],
    against: str,
    *,
    metric: str = "time",
    unit: str = "ms",
    amount: float | None = None,
    targets: Mapping[str, float] | None = None,
) -> list[Row]:
    """Rows of several cases, each held against one of them, whose row comes first and has no ratio.

    seconds: by case, one number a round. amount: of `unit` less its "/s" done in each, for a rate; None for
    times in milliseconds. targets: the ratios promised, by case.
    """
    made = []
    for case in (against, *(name for name in seconds if name != against)):
        taken = seconds[case]
        shown = [1e3 * item for item in taken] if amount is None else [amount / item for item in taken]
        row = Row(
            benchmark,
            case,
            metric,
            statistics.median(shown),
            min(shown),
            max(shown),
            unit,
            repeats=len(taken),
        )
        if case != against:
            single = [slow / fast for slow, fast in zip(seconds[against], taken, strict=True)]
            row = replace(
                row,
                ratio=statistics.median(single),
                ratio_min=min(single),
                ratio_max=max(single),
                against=against,
                target=(targets or {}).get(case),
            )
        made.append(row)
    return made


@dataclass(frozen=True)
class Outcome:
    """Rows of all benchmarks; those that were wrong, and those that are not for this machine, and why."""

    rows: list[Row]
    wrong: list[str]
    absent: list[str]

    @property
    def missed(self) -> list[str]:
        """Rows whose ratio is below what is promised."""
        return [
            f"{row.benchmark}, {row.case}, {row.metric}: {row.ratio:.3f}x, promised {row.target:g}x"
            for row in self.rows
            if row.ratio is not None and row.target is not None and row.ratio < row.target
        ]

    @property
    def code(self) -> int:
        """Exit code: 1 where a result was wrong or a ratio missed its target."""
        return int(bool(self.wrong or self.missed))


def collect(benchmarks: Mapping[str, Rows], log: TextIO) -> Outcome:
    """Run all benchmarks. One that is wrong in any case gives no row at all."""
    found = Outcome([], [], [])
    for name, rows in benchmarks.items():
        print(f"{name} ...", file=log, flush=True)
        try:
            found.rows.extend(list(rows()))
        except Wrong as error:
            found.wrong.append(f"{name}: {error}")
        except Absent as error:
            found.absent.append(f"{name}: {error}")
    return found


def table(rows: Sequence[Row], machine: str) -> str:
    """The rows for people, under the line that names the machine, and those of other machines' rows."""
    heads = ("benchmark", "case", "metric", "median [min, max]", "ratio [min, max]", "against", "target", "n")
    lines = [heads, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    left = (0, 1, 2, 5)
    shown = [
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    others = dict.fromkeys(f"{row.benchmark}: {row.machine}" for row in rows if row.machine)
    return "\n".join([machine, *others, *shown])


def line(row: Row) -> str:
    """A row for people as soon as it is known."""
    name, case, metric, values, ratio, against, target, _ = _cells(row)
    held = f", {ratio} as fast as {against}" if ratio else ""
    return f"{name}, {case}: {metric} {values}{held}{f', promised {target}' if target else ''}"


def _cells(row: Row) -> tuple[str, ...]:
    ratio = ""
    if row.ratio is not None and row.ratio_min is not None and row.ratio_max is not None:
        ratio = f"{row.ratio:.2f}x [{row.ratio_min:.2f}, {row.ratio_max:.2f}]"
    values = f"{row.median:,.4g} [{row.min:,.4g}, {row.max:,.4g}] {row.unit}"
    target = "" if row.target is None else f">= {row.target:g}x"
    against = row.against.partition(":")[0]
    return (row.benchmark, row.case, row.metric, values, ratio, against, target, str(row.repeats))


def to_csv(rows: Iterable[Row], machine: str) -> str:
    """The rows as CSV, the machine in every line, with the threads that a case names; numbers have five
    digits, no number is an empty cell. machine: of the rows that have none of their own.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(field.name for field in fields(Row))
    for row in rows:
        told = replace(row, machine=row.machine or _with_threads(machine, row))
        cells = [f"{item:.5g}" if isinstance(item, float) else item for item in asdict(told).values()]
        writer.writerow("" if item is None else item for item in cells)
    return stream.getvalue()


def _with_threads(machine: str, row: Row) -> str:
    """The machine's line for a row whose case has threads of its own."""
    own = _THREADS.search(row.case)
    return machine if own is None else _THREADS.sub(own[0], machine)


def report(benchmarks: Mapping[str, Rows], machine: str) -> Outcome:
    """Run all and print the table, what was not measured, and what is wrong or too slow."""
    found = collect(benchmarks, sys.stderr)
    if found.rows:
        print(table(found.rows, machine))
    for text in found.absent:
        print(f"not measured here: {text}")
    complain(found)
    return found


def complain(found: Outcome) -> None:
    """Say what is wrong or too slow."""
    for text in found.missed:
        print(f"below its target: {text}", file=sys.stderr)
    for text in found.wrong:
        print(f"wrong, so no speed is reported: {text}", file=sys.stderr)


def standalone(name: str, rows: Rows) -> None:
    """One benchmark as a script: one thread, its table, and its exit code."""
    raise SystemExit(report({name: rows}, one_thread()).code)


def one_thread() -> str:
    """Let torch use one thread, whatever else the machine does; the line that names the machine."""
    import torch
    from deltamem_eval.profiling.machine import machine_line

    torch.set_num_threads(1)
    return machine_line(torch.device("cpu"))


def gpu_machine() -> str:
    """The line that names the CUDA device, with its driver and memory, and the machine it is in."""
    import torch
    from deltamem_eval.profiling.machine import machine_line

    return machine_line(torch.device("cuda"))


def publish(table: Table, file: Path | None) -> None:
    """Print a report's table as Markdown, and write it as CSV where a file is named."""
    from deltamem_eval.reports import render

    print(render.to_markdown(table))
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(render.to_csv(table), encoding="utf-8")
