"""Parameters that each method adds to a backbone, from its shape alone, beside the paper's figure 4."""

from __future__ import annotations

from deltamem_eval.errors import UserError
from deltamem_eval.overhead import ModelShape
from deltamem_eval.registry import METHODS
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
    caption = (
        f"Added parameters on {name}: {shape.parameters:,} parameters of its own, tied weights counted once."
    )
    return Table("Parameter overhead", _COLUMNS, tuple(rows), caption, tuple(notes))


def _mismatch(method: str, printed: PrintedParameters, share: float) -> str:
    own = f"its own {printed.added / 1e6:,.2f}M are {100 * share:.2f} % of this backbone"
    return f"{method}: the paper prints {100 * printed.share:.2f} %, but {own}."
