"""`params`: how many parameters each method adds to a backbone."""

from __future__ import annotations

from typing import Annotated

import typer


def params(
    model: Annotated[
        str, typer.Option(help="a listed backbone, embedded, a model's folder or a config.json")
    ] = "Qwen/Qwen3-4B-Instruct-2507",
    as_json: Annotated[bool, typer.Option("--json", help="print the table as JSON")] = False,
) -> None:
    """Count the parameters that each method adds, from a config alone, beside the paper's numbers."""
    from deltamem_eval.cli.run import print_table
    from deltamem_eval.reports.parameters import parameter_table
    from deltamem_eval.reports.render import to_json
    from deltamem_eval.shapes import find_shape

    table = parameter_table(*find_shape(model))
    if as_json:
        typer.echo(to_json(table), nl=False)
    else:
        print_table(table)
