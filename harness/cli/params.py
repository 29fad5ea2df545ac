"""`params`: how many parameters each method adds to a backbone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from deltamem_eval.errors import UserError

if TYPE_CHECKING:
    from deltamem_eval.reports.table import Table


def params(
    model: Annotated[
        str, typer.Option(help="a listed backbone, embedded, a model's folder or a config.json")
    ] = "Qwen/Qwen3-4B-Instruct-2507",
    as_json: Annotated[bool, typer.Option("--json", help="print the table as JSON")] = False,
    out: Annotated[Path | None, typer.Option(help="write the table and its figure into this folder")] = None,
    form: Annotated[
        str,
        typer.Option("--format", help="md, csv, json, latex, pdf, png, svg, separated by commas; with --out"),
    ] = "",
    style: Annotated[Path | None, typer.Option(help="matplotlib style file over ours; with --out")] = None,
) -> None:
    """Count the parameters that each method adds, from a config alone, beside the paper's numbers."""
    from deltamem_eval.cli.run import print_table
    from deltamem_eval.reports.parameters import parameter_table
    from deltamem_eval.reports.render import to_json
    from deltamem_eval.shapes import find_shape

    if out is None and (form or style):
        raise UserError("--format and --style are for the files of --out DIR")
    table = parameter_table(*find_shape(model))
    if out is not None:
        _write(table, form, style, out)
    elif as_json:
        typer.echo(to_json(table), nl=False)
    else:
        print_table(table)


def _write(table: Table, form: str, style: Path | None, out: Path) -> None:
    from deltamem_eval.reports.artefacts import Artefacts, parameters_drawing
    from deltamem_eval.reports.write import FORMATS, PAGE, Wanted, parse_formats, write_artefacts

    formats = parse_formats(form or ",".join(name for name in FORMATS if name != PAGE))
    if PAGE in formats:
        raise UserError("the page is of runs: `report` writes it; leave html out of --format")
    made = Artefacts((table,), (parameters_drawing(table),))
    written = write_artefacts(made, Wanted(formats, style=style), out)
    typer.echo(f"{len(written)} files in {out}")
