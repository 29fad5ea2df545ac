"""`list` and `show`: what can be run. No torch is imported."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Annotated

import typer
from deltamem_eval.errors import unknown
from deltamem_eval.registry import METHODS, TASKS, Listed

MODELS = (
    Listed("embedded", "deltamem-eval", "the tiny backbone that ships with the package", None),
    Listed("FOLDER", "", "any local folder with a decoder's config, tokenizer and safetensors", None),
    Listed("OWNER/NAME", "", "any decoder on the hub, for example Qwen/Qwen3-4B-Instruct-2507", None),
)


def listing(
    what: Annotated[str, typer.Argument(help="methods, tasks or models")] = "methods",
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """List methods, tasks or models; a broken plug-in is listed with its error."""
    kinds: dict[str, Callable[[], list[Listed]]] = {
        "methods": METHODS.listing,
        "tasks": TASKS.listing,
        "models": lambda: list(MODELS),
    }
    if what not in kinds:
        raise unknown("listing", what, kinds)
    rows = kinds[what]()
    if as_json:
        typer.echo(json.dumps([vars(row) for row in rows], indent=2, ensure_ascii=False))
        return
    width = max(len(row.name) for row in rows)
    for row in rows:
        typer.echo(f"{row.name:<{width}}  {row.summary if row.error is None else 'BROKEN: ' + row.error}")


def show(name: Annotated[str, typer.Argument(help="a method's or a task's name")]) -> None:
    """Describe one method or task: what it does, its options and their defaults."""
    if name in TASKS.names() and name not in METHODS.names():
        task = TASKS.load(name)
        typer.echo(f"task {name}: {task.summary}\n\n{inspect.getdoc(task)}")
        return
    if name not in METHODS.names():
        raise unknown("method or task", name, [*METHODS.names(), *TASKS.names()])
    method = METHODS.load(name)
    typer.echo(f"method {name}: {method.summary}\n\n{inspect.getdoc(method)}")
    for option, value in method.defaults.items():
        typer.echo(f"  --option {option}={value}")
