"""What a run was asked for and does not hold yet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deltamem_eval.cells import Cell, plan
from deltamem_eval.registry import TASKS
from deltamem_eval.store import read_cell_records, read_run

_NAMED = 3


def unfinished_cells(path: Path) -> list[Cell]:
    """The cells that a run's request names and that have not ended. Raises UserError as `read_run`."""
    request = read_run(path).request
    if not request.get("methods"):
        return []
    task = str(request["task"])
    seeds = [int(seed) for seed in request["seeds"]]
    if task in TASKS.names() and not TASKS.load(task).seeded:
        seeds = seeds[:1]
    asked = plan(list(request["methods"]), {task: seeds}, list(request["windows"]), bool(request["controls"]))
    ended = {
        (
            record.identity["method"],
            record.identity["control"],
            record.identity["window"],
            record.identity["seed"],
        )
        for record in read_cell_records(path)
    }
    return [cell for cell in asked if (cell.method, cell.control, cell.window, cell.seed) not in ended]


def partial_notes(paths: Sequence[Path]) -> tuple[str, ...]:
    """One sentence for each run that has not ended: how many cells are missing, and the first of them."""
    notes = []
    for path in paths:
        missing = unfinished_cells(path)
        if missing:
            named = [
                f"{cell.label} at window {'all' if cell.window is None else cell.window}, seed {cell.seed}"
                for cell in missing[:_NAMED]
            ]
            more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
            count = f"{len(missing)} cell{'s' if len(missing) > 1 else ''}"
            notes.append(f"Partial: {path.name} lacks {count}: {'; '.join(named)}{more}.")
    return tuple(notes)
