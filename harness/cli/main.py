"""The command line's entry point: commands import what they need when they run, so that help is quick."""

from __future__ import annotations

import sys

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

INTERRUPTED = 130


def entry() -> None:
    """Run the command line; a user's mistake is one line and exit code 2."""
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except SystemExit as end:
        if end.code == INTERRUPTED:  # typer's word for a KeyboardInterrupt, about which it says nothing
            print("stopped; the same command goes on from here", file=sys.stderr)
        raise


if __name__ == "__main__":
    entry()
