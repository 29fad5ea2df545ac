"""`list` and `show`: what can be run. No torch is imported."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer
from deltamem_eval.errors import unknown
from deltamem_eval.registry import METHODS, TASKS, Listed
from deltamem_eval.suites import SUITES, Suite


def listing(
    what: Annotated[str, typer.Argument(help="methods, tasks, suites or models")] = "methods",
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """List methods, tasks, suites or models; a broken plug-in is listed with its error."""
    kinds: dict[str, Callable[[], list[Listed]]] = {
        "methods": METHODS.listing,
        "tasks": TASKS.listing,
        "suites": _suites,
        "models": _models,
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


def _suites() -> list[Listed]:
    return [Listed(name, "deltamem-eval", _told(suite), None) for name, suite in SUITES.items()]


def _told(suite: Suite) -> str:
    windows = f"; window {', '.join(map(str, suite.windows))}" if suite.windows else ""
    return f"{suite.summary} ({', '.join(part.task for part in suite.parts)}{windows})"


def _models() -> list[Listed]:
    """What --model takes; the listed backbones are those that params and profile know without a download."""
    from deltamem_eval.shapes import CONFIGS

    listed = "a decoder on the hub; params and profile --random-weights know its shape without a download"
    return [
        Listed("embedded", "deltamem-eval", "the tiny backbone that ships with the package", None),
        Listed("FOLDER", "", "any local folder with a decoder's config, tokenizer and safetensors", None),
        *(Listed(name, "", listed, None) for name in CONFIGS),
        Listed("OWNER/NAME", "", "any other decoder on the hub", None),
    ]


def show(name: Annotated[str, typer.Argument(help="a method's or a task's name")]) -> None:
    """Describe one method or task: what it does, its options and their defaults."""
    if name in TASKS.names() and name not in METHODS.names():
        task = TASKS.load(name)
        typer.echo(f"task {name}: {task.summary}\n\n{inspect.getdoc(task)}")
        _defaults("--task-option", task.defaults)
        return
    if name not in METHODS.names():
        raise unknown("method or task", name, [*METHODS.names(), *TASKS.names()])
    method = METHODS.load(name)
    typer.echo(f"method {name}: {method.summary}\n\n{inspect.getdoc(method)}")
    _defaults("--option", method.defaults)


def _defaults(option: str, defaults: Mapping[str, Any]) -> None:
    for name, value in defaults.items():
        typer.echo(f"  {option} {name}={_typed(value)}")


def _typed(value: Any) -> str:
    """A value as the command line takes it: a text as it stands, but in JSON where it holds a line's end."""
    return value if isinstance(value, str) and value.isprintable() else json.dumps(value)
