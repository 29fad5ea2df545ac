"""`lm-eval` and `lm-eval-tasks`: lm-eval's own command line with our model, and our tasks for it."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from deltamem_eval.errors import UserError

# Everything after the command's name is lm-eval's, its --help included.
PASS_THROUGH: dict[str, Any] = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "help_option_names": [],
}
_SUBCOMMANDS = ("ls", "validate")
_MODEL = ("--model", "-M", "--config", "-C")


def lm_eval(ctx: typer.Context) -> None:
    """Run lm-eval with its own arguments and our methods as model deltamem-eval.

    The model is deltamem-eval unless --model or --config names another; its settings go into --model_args,
    for example model=embedded,method=token-write,window=0. lm-eval's response cache (--use_cache) is refused.
    """
    from deltamem_eval.lm_eval_bridge import register
    from deltamem_eval.lm_eval_bridge.mistakes import in_a_line

    register()
    from lm_eval.__main__ import cli_evaluate

    before = sys.argv
    sys.argv = ["lm-eval", *arguments(ctx.args)]
    try:
        with in_a_line("lm-eval"):
            cli_evaluate()
    finally:
        sys.argv = before


def arguments(given: list[str]) -> list[str]:
    """lm-eval's arguments, our model put in where none is named. Raises UserError for --use_cache."""
    from deltamem_eval.lm_eval_bridge import MODEL_NAME

    if any(item.partition("=")[0].startswith("--use_c") for item in given):
        raise UserError(
            "--use_cache keeps answers by their prompt alone and would give one method's to another: "
            "leave it out"
        )
    if not given or given[0] in _SUBCOMMANDS or {"-h", "--help"} & set(given):
        return given or ["--help"]
    rest = given[1:] if given[0] == "run" else given
    named = any(item.partition("=")[0] in _MODEL for item in rest)
    return ["run", *([] if named else ["--model", MODEL_NAME]), *rest]


def lm_eval_tasks(
    path: Annotated[bool, typer.Option("--path", help="print the folder alone")] = False,
) -> None:
    """List our tasks in lm-eval's form; --path prints their folder, for lm-eval's --include_path."""
    from deltamem_eval.lm_eval_bridge import tasks_folder

    folder = tasks_folder()
    if path:
        typer.echo(str(folder))
        return
    for file in sorted(folder.glob("*.yaml")):
        if not file.stem.startswith("_"):
            typer.echo(file.stem)
