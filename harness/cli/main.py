"""The command line's entry point: commands import what they need when they run, so that help is quick."""

from __future__ import annotations

import io
import os
import sys
import traceback
from typing import Any, NoReturn

import typer
from deltamem_eval.cli.bundle import bundle
from deltamem_eval.cli.check import check
from deltamem_eval.cli.compare import compare
from deltamem_eval.cli.data import data
from deltamem_eval.cli.doctor import doctor
from deltamem_eval.cli.judge import judge
from deltamem_eval.cli.listing import listing, show
from deltamem_eval.cli.lm_eval import PASS_THROUGH, lm_eval, lm_eval_tasks
from deltamem_eval.cli.params import params
from deltamem_eval.cli.profile import profile
from deltamem_eval.cli.regress import regress
from deltamem_eval.cli.report import report
from deltamem_eval.cli.run import run
from deltamem_eval.cli.train import qasper, train
from deltamem_eval.cli.view import view
from deltamem_eval.errors import UserError

_INTERRUPTED = 130  # what shells give a command that Ctrl-C ended
_CRASHED = 3  # 1 is a verdict: something got worse, a promise is broken
_UNREAD = 141  # what shells give a command whose reader went away, as `head` does
app = typer.Typer(
    name="deltamem-eval",
    help="How well, and at what cost, a language model remembers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("run")(run)
app.command("report")(report)
app.command("view")(view)
app.command("compare")(compare)
app.command("regress")(regress)
app.command("bundle")(bundle)
app.command("judge")(judge)
app.command("list")(listing)
app.command("show")(show)
app.command("doctor")(doctor)
app.command("check")(check)
app.command("params")(params)
app.command("profile")(profile)
app.command("train")(train)
app.command("convert-qasper")(qasper)
app.command("lm-eval", context_settings=PASS_THROUGH)(lm_eval)
app.command("lm-eval-tasks")(lm_eval_tasks)
app.add_typer(data, name="data")

# typer's class of every misuse of the command line; it exports only a child of it
_Misuse: type[Exception] = typer.BadParameter.__mro__[1]


def entry() -> None:
    """Run the command line; a user's mistake is one line and exit code 2, ours a traceback and 3."""
    _prepare()
    try:
        code = app(standalone_mode=False)
    except UserError as error:
        _fail(str(error))
    except _Misuse as error:
        _misused(error)
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    except SystemExit as ended:
        if not isinstance(ended.__context__, BrokenPipeError):  # of which typer and rich make exit code 1
            raise
        code = _UNREAD
    except Exception:
        traceback.print_exc()
        code = _CRASHED
    if code == _INTERRUPTED:
        print("stopped; run, train, profile and judge go on from here when started again", file=sys.stderr)
    sys.exit(code)


def _prepare() -> None:
    """Streams that print what their encoding lacks as `?`, and a hub that leaves the reporting to us."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")


def _misused(error: Any) -> NoReturn:
    """One line of what is wrong with the arguments; where there are none, the help is on screen already."""
    if type(error).__name__ == "NoArgsIsHelpError":
        sys.exit(2)
    message = " ".join(error.format_message().split()).rstrip(".")
    command = error.ctx.command_path if error.ctx else app.info.name
    _fail(f"{message} (see {command} --help)")


def _fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    entry()
