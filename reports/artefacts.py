"""Everything a report of some runs holds: its tables, and the figures that are drawn from them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from deltamem_eval.errors import UserError
from deltamem_eval.reports.table import Table

if TYPE_CHECKING:
    from deltamem_eval.reports.figures.style import Style
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Inputs:
    """Folders of finished runs, and folders of finished profiles."""

    runs: tuple[Path, ...]
    profiles: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Drawing:
    """A figure to be drawn in any style: what its files are called, its title, and what it shows in words."""

    name: str
    title: str
    alt: str
    draw: Callable[[Style], Figure]


@dataclass(frozen=True)
class Artefacts:
    """Tables, and the drawings of them."""

    tables: tuple[Table, ...]
    drawings: tuple[Drawing, ...]


def sort_inputs(paths: Sequence[Path]) -> Inputs:
    """Tell runs from profiles. Raises UserError for a folder that is neither and for two of one name."""
    runs, profiles = [], []
    for path in paths:
        if (path / "run.json").is_file():
            runs.append(path)
        elif (path / "profile.json").is_file():
            profiles.append(path)
        elif not path.exists():
            raise UserError(f"{path}: no such folder")
        else:
            raise UserError(
                f"{path} is neither a run's folder nor a profile's: it holds no run.json or profile.json"
            )
    names = [path.resolve().name for path in paths]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"two inputs are called {twice[0]}: a number could not be traced; rename one")
    return Inputs(tuple(runs), tuple(profiles))


def gather(inputs: Inputs, by: Sequence[str] = ("category",)) -> Artefacts:
    """Tables and drawings of runs and profiles. Raises UserError where there is nothing to show."""
    tables: list[Table] = []
    drawings: list[Drawing] = []
    if inputs.runs:
        tables += _run_tables(inputs.runs, by)
        drawings += _run_drawings({table.name: table for table in tables})
    if inputs.profiles:
        from deltamem_eval.reports.figures.footprint import footprint_figure
        from deltamem_eval.reports.profile import profile_table

        table = profile_table(inputs.profiles)
        tables.append(table)
        alt = "Peak memory and speed against prompt length, one line a method, replay and state-only apart."
        drawings.append(_drawing(table, footprint_figure, alt))
    return Artefacts(tuple(tables), tuple(drawings))


def _run_tables(runs: Sequence[Path], by: Sequence[str]) -> list[Table]:
    from deltamem_eval.reports.against_paper import paper_table
    from deltamem_eval.reports.averages import averages_table
    from deltamem_eval.reports.cut import cut_table
    from deltamem_eval.reports.frontier import frontier_table
    from deltamem_eval.reports.matrix import matrix_table
    from deltamem_eval.reports.parameters import run_parameters_table
    from deltamem_eval.reports.retention import retention_table
    from deltamem_eval.reports.summary import summary_table

    averages, paper = averages_table(runs), paper_table(runs)
    if not paper.rows:
        averages = replace(averages, footnotes=(*averages.footnotes, paper.caption))
    found = [
        averages,
        matrix_table(runs, "category"),
        matrix_table(runs, "source"),
        summary_table(runs, tuple(by)),
        cut_table(runs),
        paper,
        frontier_table(runs),
        retention_table(runs),
        run_parameters_table(runs),
    ]
    return [table for table in found if table.rows]


def _run_drawings(tables: dict[str, Table]) -> list[Drawing]:
    summary = tables["accuracy-and-cost"]
    if len(summary.aside) == len(summary.rows):  # a run that was stopped after its controls
        return []
    found = []
    for task in _tasks(summary):
        found += _task_drawings({name: _of_task(table, task) for name, table in tables.items()}, task)
    if any(row[1].value for row in tables["parameters"].rows):
        found.append(parameters_drawing(tables["parameters"]))
    return found


def _tasks(table: Table) -> list[str | None]:
    """The tasks of a table of several, each of which has figures of its own; None for a table of one."""
    place = next((index for index, column in enumerate(table.columns) if column.key == "task"), None)
    return [None] if place is None else list(dict.fromkeys(str(row[place].value) for row in table.rows))


def _of_task(table: Table, task: str | None) -> Table:
    """The rows of one task, where the table names tasks."""
    if task is None or _tasks(table) == [None]:
        return table
    place = [column.key for column in table.columns].index("task")
    kept = [number for number, row in enumerate(table.rows) if row[place].value == task]
    rows = tuple(table.rows[number] for number in kept)
    aside = frozenset(number for number, old in enumerate(kept) if old in table.aside)
    return replace(table, rows=rows, aside=aside)


def _task_drawings(tables: dict[str, Table], task: str | None) -> list[Drawing]:
    """Figures of one task, which their names and titles tell where a report holds several."""
    from deltamem_eval.reports.figures.accuracy import accuracy_figure
    from deltamem_eval.reports.figures.frontier import frontier_figure
    from deltamem_eval.reports.figures.retention import retention_figure
    from deltamem_eval.reports.retention import capacities

    summary = tables["accuracy-and-cost"]
    if len(summary.aside) == len(summary.rows):
        return []
    found = []
    if "category" in {column.key for column in summary.columns}:
        alt = "Accuracy with intervals by method and window, a panel a category, chance and controls marked."
        found.append(_drawing(summary, accuracy_figure, alt, name="accuracy"))
    alt = "Macro average against memory per context and against prompt tokens; the best settings joined."
    found.append(_drawing(tables["frontier"], frontier_figure, alt))
    if "retention" in tables and tables["retention"].rows:
        alt = "Accuracy against tokens since the write, associations held and updates, one line a method."
        bounds = capacities(tables["retention"])
        draw = partial(retention_figure, capacity=bounds)
        found.append(_drawing(tables["retention"], draw, alt))
    if task is None:
        return found
    name = re.sub(r"[^\w.-]+", "-", task)
    return [replace(one, name=f"{one.name}-{name}", title=f"{one.title}: {task}") for one in found]


def parameters_drawing(table: Table) -> Drawing:
    """The figure of a table of added parameters."""
    from deltamem_eval.reports.figures.parameters import parameters_figure

    alt = "Parameters that each method adds, on a logarithmic axis, with their share of the backbone."
    return _drawing(table, parameters_figure, alt)


def _drawing(
    table: Table, draw: Callable[[Table, Style], Figure], alt: str, name: str | None = None
) -> Drawing:
    return Drawing(name or table.name, table.title, alt, lambda style: draw(table, style))
