"""Parameters that each method adds to a backbone, from its shape alone, beside the paper's figure 4."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deltamem_eval.errors import UserError
from deltamem_eval.overhead import ModelShape
from deltamem_eval.registry import METHODS
from deltamem_eval.reports.groups import Group, load_groups
from deltamem_eval.reports.paper import BACKBONE, PARAMETERS, PrintedParameters
from deltamem_eval.reports.table import Cell, Column, Table

_COLUMNS = (
    Column("method", "method"),
    Column("trainable", "trainable", "count", False),
    Column("stored", "stored", "count", False),
    Column("share", "% of backbone", "share", False),
    Column("paper", "paper", "millions"),
    Column("paper_share", "paper %", "share"),
    Column("difference", "ours − paper", "millions"),
)


def parameter_table(name: str, shape: ModelShape) -> Table:
    """One row a registered method. The paper's numbers stand beside ours on the backbone it counted.

    A plug-in that cannot be counted has a row of dashes and a footnote.
    """
    rows, notes = [], []
    for method in METHODS.names():
        try:
            found = METHODS.load(method).overhead(shape, {})
        except Exception as error:  # a plug-in may raise anything
            rows.append((Cell(method), *(Cell(None) for _ in _COLUMNS[1:])))
            line = str(error).strip().splitlines() or [type(error).__name__]
            notes.append(f"{method} cannot be counted: {line[0]}.")
            continue
        printed = PARAMETERS.get(method) if name == BACKBONE else None
        rows.append(
            (
                Cell(method),
                Cell(found.trainable),
                Cell(found.stored),
                Cell(found.stored / shape.parameters),
                Cell(printed.added if printed else None),
                Cell(printed.share if printed else None),
                Cell(found.trainable - printed.added if printed else None),
            )
        )
        if printed and round(printed.added / shape.parameters, 4) != round(printed.share, 4):
            notes.append(_mismatch(method, printed, printed.added / shape.parameters))
    if not rows:
        raise UserError("no method is registered: the package is not installed as it should be")
    notes.append("A model that stands apart, LLMLingua-2's classifier or an embedder, is not counted.")
    caption = (
        f"Added parameters on {name}: {shape.parameters:,} parameters of its own, tied weights counted once."
    )
    return Table("Parameter overhead", _COLUMNS, tuple(rows), caption, tuple(notes), name="parameters")


def _mismatch(method: str, printed: PrintedParameters, share: float) -> str:
    own = f"its own {printed.added / 1e6:,.2f}M are {100 * share:.2f} % of this backbone"
    return f"{method}: the paper prints {100 * printed.share:.2f} %, but {own}."


def run_parameters_table(paths: Sequence[Path]) -> Table:
    """What each method of some runs added to the backbone it ran on, as loaded, beside the paper's figure 4.

    A method whose parameters could not be counted has a row of dashes. Raises UserError as `load_groups`.
    """
    groups, records = load_groups(paths)
    models = {str(record.identity["weights"]): str(record.identity["model"]) for record in records}
    several = len({group.backbone[0] for group in groups}) > 1
    found: dict[str, tuple[Cell, ...]] = {}
    for group in groups:
        if group.control is None:
            name = models[group.backbone[0]]
            label = f"{group.label} on {name}" if several else group.label
            printed = PARAMETERS.get(group.method) if name == BACKBONE else None
            found.setdefault(label, _run_row(label, group, printed))
    sizes = sorted({f"{models[weights]}: {_size(groups, weights)}" for weights in models})
    caption = f"Added parameters as loaded. Backbone, tied weights counted once: {'; '.join(sizes)}."
    return Table("Parameter overhead", _COLUMNS, tuple(found.values()), caption, name="parameters")


def _run_row(label: str, group: Group, printed: PrintedParameters | None) -> tuple[Cell, ...]:
    found = group.effective.get("overhead") or {}
    trainable, stored, backbone = found.get("trainable"), found.get("stored"), found.get("backbone")
    return (
        Cell(label, runs=group.runs),
        Cell(trainable),
        Cell(stored),
        Cell(stored / backbone if backbone and stored is not None else None),
        Cell(printed.added if printed else None),
        Cell(printed.share if printed else None),
        Cell(trainable - printed.added if printed and trainable is not None else None),
    )


def _size(groups: Sequence[Group], weights: str) -> str:
    sizes = {
        int(group.effective["overhead"]["backbone"])
        for group in groups
        if group.backbone[0] == weights and group.effective.get("overhead")
    }
    return " or ".join(f"{size:,}" for size in sorted(sizes)) or "unknown"
