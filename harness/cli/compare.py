"""`compare`: two stored runs against each other, question by question."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from deltamem_eval.cli.output import BREAKDOWNS, check_file, check_seed, write_file
from deltamem_eval.errors import UserError

if TYPE_CHECKING:
    from deltamem_eval.reports.compare.comparison import Comparison


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="a run's folder")],
    b: Annotated[Path, typer.Argument(metavar="B", help="another's; differences are B less A")],
    first: Annotated[
        str | None, typer.Option("--a", metavar="NAME[@WINDOW]", help="a method of A, as tables name it")
    ] = None,
    second: Annotated[
        str | None, typer.Option("--b", metavar="NAME[@WINDOW]", help="the method of B to set against it")
    ] = None,
    by: Annotated[str, typer.Option(help=BREAKDOWNS)] = "category",
    unpaired: Annotated[
        bool, typer.Option("--unpaired", help="as two samples, whatever they were asked")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON, every flipped question in it")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="print Markdown")] = False,
    out: Annotated[Path | None, typer.Option(help="write there instead, as Markdown unless --json")] = None,
    flips: Annotated[int, typer.Option(help="flipped questions shown, but in JSON")] = 20,
    bootstrap_seed: Annotated[int, typer.Option(help="seed of the resampling")] = 0,
) -> None:
    """Compare two runs on the same questions: difference, interval, p-values, what was won and lost.

    Runs that did not see the same prompts are refused, with the fields that differ.
    """
    from deltamem_eval.reports.compare.comparison import compare as compare_runs
    from deltamem_eval.reports.compare.tables import comparison_table, flips_table
    from deltamem_eval.reports.render.markdown import to_markdown

    if as_json and markdown:
        raise UserError("--json and --markdown are two formats: give one")
    if flips < 0:
        raise UserError(f"--flips cannot be negative: {flips}")
    check_seed(bootstrap_seed)
    if out is not None:
        check_file(out)
    names = tuple(part for part in by.split(",") if part)
    found = compare_runs(a, b, names, choices=(first, second), unpaired=unpaired, seed=bootstrap_seed)
    tables = [comparison_table(found)]
    if flips and any(difference.flips for difference in found.differences):
        tables.append(flips_table(found.differences, found.by, flips))
    if as_json:
        text = json.dumps(_plain(found), indent=2, ensure_ascii=False) + "\n"
    elif markdown or out is not None:
        text = "\n".join(to_markdown(table) for table in tables)
    else:
        from deltamem_eval.cli.run import print_table

        for table in tables:
            print_table(table)
        return
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_file(out, text)


def _plain(found: Comparison) -> dict[str, Any]:
    """The comparison as JSON: what was compared, the table, every flipped question."""
    from deltamem_eval.reports.compare.tables import comparison_table, flips_table
    from deltamem_eval.reports.render.plain import to_json

    return {
        "a": str(found.a),
        "b": str(found.b),
        "paired": found.paired,
        "notes": list(found.notes),
        "comparison": json.loads(to_json(comparison_table(found))),
        "flips": json.loads(to_json(flips_table(found.differences, found.by))),
    }
