"""`run`: methods on a task, then the table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from deltamem_eval.errors import UserError

if TYPE_CHECKING:
    from deltamem_eval.reports.table import Table


def run(
    method: Annotated[list[str], typer.Option(help="a method's name; repeat or separate by commas")],
    task: Annotated[str, typer.Option(help="a task's name")] = "embedded",
    rows: Annotated[str | None, typer.Option(help="file in MemoryAgentBench's row schema")] = None,
    protocol: Annotated[
        str | None, typer.Option(help="isolated, official or delta-mem-release; for MemoryAgentBench's rows")
    ] = None,
    model: Annotated[str, typer.Option(help="embedded, a local folder, or a hub name")] = "embedded",
    adapter: Annotated[str | None, typer.Option(help="folder of the method's trained weights")] = None,
    window: Annotated[list[str] | None, typer.Option(help="context tokens in the prompt")] = None,
    seeds: Annotated[str, typer.Option(help="seeds of the episodes, separated by commas")] = "0",
    limit: Annotated[int | None, typer.Option(help="episodes a category; for trying out")] = None,
    no_controls: Annotated[bool, typer.Option("--no-controls", help="leave the controls out")] = False,
    option: Annotated[list[str] | None, typer.Option(help="NAME=VALUE, a method's own setting")] = None,
    task_option: Annotated[list[str] | None, typer.Option(help="NAME=VALUE, a task's own setting")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1...")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16")] = "auto",
    batch_size: Annotated[str, typer.Option(help="questions at once; auto halves when memory ends")] = "auto",
    out: Annotated[Path | None, typer.Option(help="the run's folder")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the table as JSON")] = False,
) -> None:
    """Run methods with their controls and print accuracy and cost; after a stop the same command goes on."""
    from deltamem_eval.session import Request, check

    request = check(
        Request(
            methods=tuple(name for item in method for name in item.split(",") if name),
            model=model,
            task=task,
            rows=rows,
            adapter=adapter,
            windows=_numbers("--window", ",".join(window or [])),
            seeds=_numbers("--seeds", seeds),
            limit=limit,
            controls=not no_controls,
            device=device,
            dtype=dtype,
            batch_size=8 if batch_size == "auto" else _numbers("--batch-size", batch_size)[0],
            options=parse_options(option or []),
            task_options=parse_options(task_option or []) | ({"protocol": protocol} if protocol else {}),
        )
    )
    folder = out or request.default_folder()
    _execute(request, folder, quiet)
    _print(folder, as_json)


def _execute(request: Any, folder: Path, quiet: bool) -> None:
    from deltamem_eval.cells import plan
    from deltamem_eval.display import Display
    from deltamem_eval.session import execute
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    seeds = list(request.seeds)
    cells = len(plan(list(request.methods), {"": seeds}, list(request.windows), request.controls))
    with Display(cells, quiet) as display:
        execute(request, folder, display)


def _print(folder: Path, as_json: bool) -> None:
    from deltamem_eval.reports.averages import averages_table
    from deltamem_eval.reports.summary import summary_table
    from deltamem_eval.reports.table import to_json

    table = summary_table([folder])
    if as_json:
        typer.echo(to_json(table), nl=False)
        return
    print_table(table)
    print_table(averages_table([folder]))
    typer.echo(f"stored in {folder}")


def print_table(table: Table) -> None:
    """A table as wide as the terminal, or 200 columns where there is none."""
    from deltamem_eval.reports.table import to_terminal
    from rich.console import Console

    console = Console()
    console = console if console.is_terminal else Console(width=200)
    console.print(to_terminal(table))


def _numbers(name: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise UserError(f"{name} takes whole numbers separated by commas, not {text!r}") from None


def parse_options(pairs: list[str]) -> dict[str, Any]:
    """NAME=VALUE pairs; values are JSON where they parse as such, else text."""
    found: dict[str, Any] = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign or not name:
            raise UserError(f"--option takes NAME=VALUE, not {pair!r}")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found
