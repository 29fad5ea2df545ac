"""`report`: the table of finished runs again, in another format or broken down otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from deltamem_eval.errors import UserError, unknown


def report(
    runs: Annotated[list[Path], typer.Argument(help="folders of finished runs, pooled")],
    by: Annotated[str, typer.Option(help="breakdowns, separated by commas")] = "category",
    form: Annotated[str, typer.Option("--format", help="text, markdown, csv or json")] = "text",
    table: Annotated[
        str, typer.Option(help="accuracy, averages, matrix; the first two without it in text and markdown")
    ] = "",
) -> None:
    """Print one table of several runs: accuracy, lift, difference from vanilla at the same window, cost."""
    from deltamem_eval.reports.averages import averages_table
    from deltamem_eval.reports.matrix import matrix_table
    from deltamem_eval.reports.render import WRITERS
    from deltamem_eval.reports.summary import summary_table

    if form not in ("text", *WRITERS):
        raise UserError(f"no format {form!r}: there are text, {', '.join(WRITERS)}")
    missing = [path for path in runs if not (path / "run.json").is_file()]
    if missing:
        raise UserError(f"{missing[0]} is not a run's folder: it holds no run.json")
    kinds = {
        "accuracy": lambda: summary_table(runs, tuple(part for part in by.split(",") if part)),
        "averages": lambda: averages_table(runs),
        "matrix": lambda: matrix_table(runs, by),
    }
    if table and table not in kinds:
        raise unknown("table", table, kinds)
    names = [table] if table else ["accuracy", *(["averages"] if form in ("text", "markdown") else [])]
    for name in names:
        made = kinds[name]()
        if form == "text":
            from deltamem_eval.cli.run import print_table

            print_table(made)
        else:
            typer.echo(WRITERS[form](made), nl=False)
