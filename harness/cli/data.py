"""`data`: rows made from raw data sets, what a file of rows holds, and the benchmark's own prompts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

data = typer.Typer(
    help="Make files of rows from raw data sets, describe one, or import prompts.", no_args_is_help=True
)


@data.command("build")
def build(
    name: Annotated[str, typer.Argument(help="a source's name; `data sources` lists them")],
    out: Annotated[Path, typer.Option(help="new file, .parquet, .json or .jsonl")],
    source: Annotated[list[Path] | None, typer.Option(help="a raw file, or a folder; repeat")] = None,
    tokens: Annotated[int, typer.Option(help="budget of a context")] = 103_000,
    questions: Annotated[int, typer.Option(help="questions a row")] = 100,
    seed: Annotated[int, typer.Option(help="of the first row")] = 0,
    resamples: Annotated[int, typer.Option(help="rows, with seeds from --seed on")] = 1,
    tokenizer: Annotated[
        str, typer.Option(help="embedded, a local folder, or a cached hub name")
    ] = "embedded",
) -> None:
    """Make rows of a source from its raw files; the same arguments and files give the same rows."""
    from deltamem_eval.errors import UserError
    from deltamem_eval.tasks.builders.common import Settings, check_target, write_rows
    from deltamem_eval.tasks.builders.registry import find
    from deltamem_eval.tasks.builders.tokens import counter
    from deltamem_eval.tasks.memory_agent_bench.rows import check_row

    builder = find(name)
    check_target(out)
    if builder.files and not source:
        raise UserError(f"{name} is made from {builder.files}: give them, or their folder, by --source")
    made = builder.make(source or [], Settings(tokens, questions, counter(tokenizer), seed, resamples))
    for index, row in enumerate(made.rows):
        check_row(row, f"{name} row {index}")
    write_rows(made.rows, out)
    for note in made.notes:
        typer.echo(note)
    asked = sum(len(row["questions"]) for row in made.rows)
    typer.echo(f"{out}: {asked} questions, rows: {len(made.rows)}")


@data.command("sources")
def sources() -> None:
    """List the sources that can be made, and from what."""
    from deltamem_eval.tasks.builders.registry import BUILDERS

    for name, builder in BUILDERS.items():
        typer.echo(f"{name:<18} {builder.summary}; from {builder.files or 'no file'}")


@data.command("import-prompts")
def import_prompts(
    checkout: Annotated[Path, typer.Argument(help="a local checkout of MemoryAgentBench's code")],
) -> None:
    """Take over the benchmark's own prompts for `run --prompts official`; nothing of the checkout is run."""
    from deltamem_eval.tasks.memory_agent_bench.checkout import read_checkout
    from deltamem_eval.tasks.memory_agent_bench.templates import store_prompts

    found = read_checkout(checkout)
    place = store_prompts(found)
    commit = f"commit {found.commit}" if found.commit else "unknown commit"
    typer.echo(f"{place}: templates of {len(found.templates)} families, {commit}, content hash {found.hash}")


@data.command("describe")
def describe(
    file: Annotated[Path, typer.Argument(help="file in MemoryAgentBench's row schema")],
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    tokenizer: Annotated[
        str, typer.Option(help="embedded, a local folder, or a cached hub name")
    ] = "embedded",
) -> None:
    """Print sizes, shots and conflicts of each source, and where answers leak."""
    from deltamem_eval.tasks.builders.describe import describe as figures
    from deltamem_eval.tasks.builders.describe import to_text
    from deltamem_eval.tasks.builders.tokens import counter
    from deltamem_eval.tasks.memory_agent_bench.rows import load_rows

    found = figures(load_rows(file), counter(tokenizer))
    typer.echo(json.dumps(found, indent=2) if as_json else to_text(found).rstrip("\n"))
