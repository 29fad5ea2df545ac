"""`check`: whether a method keeps every promise of the interface."""

from __future__ import annotations

from typing import Annotated

import typer
from deltamem_eval.errors import UserError


def check(
    method: Annotated[str, typer.Argument(help="a registered name, or package.module:Class")],
    model: Annotated[str, typer.Option(help="embedded, a local folder, or a hub name")] = "embedded",
    adapter: Annotated[
        str | None, typer.Option(help="folder or hub name of the method's trained weights")
    ] = None,
    option: Annotated[list[str] | None, typer.Option(help="NAME=VALUE, a method's own setting")] = None,
) -> None:
    """Check a method's promises one by one; exit code 1 where one is broken."""
    from deltamem_eval.backbone import embedded_folder
    from deltamem_eval.cli.run import parse_options
    from deltamem_eval.conformance.checks import CHECKS, NotApplicableError
    from deltamem_eval.conformance.subject import Subject
    from deltamem_eval.hub import adapter_folder
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    kind = Subject(method).kind
    if adapter is not None and not kind.trained:
        raise UserError(f"--adapter is for trained methods: {method} loads none")
    if adapter is not None:
        adapter = adapter_folder(adapter)
    elif ":" not in method and kind.trained and model == "embedded":
        shipped = embedded_folder() / method
        if not shipped.is_dir():
            raise UserError(f"{method} needs trained weights and none ship for it: give --adapter FOLDER")
        adapter = str(shipped)
    subject, broken = Subject(method, model, adapter, parse_options(option or [])), 0
    width = max(map(len, CHECKS))
    for name, run in CHECKS.items():
        try:
            run(subject)
            verdict = "ok"
        except NotApplicableError as reason:
            verdict = f"skipped: {reason}"
        except UserError:
            raise
        except Exception as error:  # a plug-in may raise anything; a crash is a broken promise
            kind_of = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
            verdict, broken = f"BROKEN: {kind_of}{error}", broken + 1
        typer.echo(f"{name:<{width}}  {verdict}")
    if broken:
        raise typer.Exit(1)
