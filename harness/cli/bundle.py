"""`bundle`: a report and all that it was made from in one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from deltamem_eval.cli.output import BREAKDOWNS
from deltamem_eval.errors import UserError


def bundle(
    runs: Annotated[list[Path], typer.Argument(help="folders of runs and profiles")],
    out: Annotated[Path, typer.Option(help="the zip file to write")],
    by: Annotated[str, typer.Option(help=BREAKDOWNS)] = "category",
    form: Annotated[str, typer.Option("--format", help="md,csv,json,latex,pdf,png,svg,html")] = "",
    style: Annotated[Path | None, typer.Option(help="matplotlib style file, over ours")] = None,
    trace: Annotated[
        str | None,
        typer.Option(help="episode whose gates and states to draw, as samples name it: embedded-0/3"),
    ] = None,
) -> None:
    """Pack a report with cells, hashes, commands and versions; `report FILE.zip --out DIR` makes it again."""
    from deltamem_eval.cli.report import prepared
    from deltamem_eval.reports.bundle import write_bundle
    from deltamem_eval.reports.write import parse_formats

    if out.suffix != ".zip":
        raise UserError(f"--out {out} must end in .zip")
    inputs, wanted = prepared(runs, by, parse_formats(form), style, trace)
    hashes = write_bundle(inputs, wanted, out)
    typer.echo(f"{len(hashes)} files in {out}")
