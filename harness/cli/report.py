"""`report`: tables of finished runs again, on the terminal or with every figure and the page in a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from deltamem_eval.cli.output import BREAKDOWNS
from deltamem_eval.errors import UserError, unknown

if TYPE_CHECKING:
    from deltamem_eval.reports.artefacts import Inputs
    from deltamem_eval.reports.table import Table
    from deltamem_eval.reports.write import Wanted

_TABLES = "accuracy, averages, cut, matrix, frontier, retention, parameters, paper or profile"
_WHOLE = (
    "averages",
    "cut",
    "frontier",
    "retention",
    "parameters",
    "paper",
    "profile",
)  # tables with no breakdown
_BY = "category"


def report(
    runs: Annotated[list[Path], typer.Argument(help="folders of runs and profiles, or one bundle.zip")],
    by: Annotated[str | None, typer.Option(help=f"else by {_BY}; {BREAKDOWNS}")] = None,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="text, markdown, csv, json, latex, html; with --out md,csv,json,latex,pdf,png,svg,html",
        ),
    ] = "",
    table: Annotated[str, typer.Option(help=f"{_TABLES}; the first two, or three, without it")] = "",
    out: Annotated[Path | None, typer.Option(help="folder for every table, figure and the page")] = None,
    style: Annotated[Path | None, typer.Option(help="matplotlib style file, over ours")] = None,
    trace: Annotated[
        str | None,
        typer.Option(help="episode whose gates and states to draw, as samples name it: embedded-0/3"),
    ] = None,
) -> None:
    """Report runs: print a table, or write every table and figure and a page to explore into a folder."""
    if out is not None:
        _write(runs, by, form, table, out, style, trace)
        return
    if style is not None or trace is not None:
        raise UserError("figures need a place: add --out DIR")
    bundles = [path for path in runs if path.suffix == ".zip"]
    if bundles:
        raise UserError(f"{bundles[0]} is a bundle: add --out DIR to make its report again")
    _show(runs, by, form or "text", table)


def _show(runs: list[Path], by: str | None, form: str, table: str) -> None:
    from deltamem_eval.reports.artefacts import sort_inputs
    from deltamem_eval.reports.render import WRITERS
    from deltamem_eval.reports.write import TABLE_FORMATS

    form = TABLE_FORMATS.get(form, (form,))[0]
    if form not in ("text", *WRITERS):
        raise UserError(f"no format {form!r} without --out: there are text, {', '.join(WRITERS)}")
    inputs = sort_inputs(runs)
    names = [table] if table else _default_tables(inputs, form)
    if by is not None and names[0] in _WHOLE:
        raise UserError(f"table {names[0]} is not broken down: leave out --by")
    for made in [_table(name, inputs, _BY if by is None else by) for name in names]:
        if made.name == "protocol-cut" and not table and not made.rows:
            continue
        if form == "text":
            from deltamem_eval.cli.run import print_table

            print_table(made)
        else:
            typer.echo(WRITERS[form](made), nl=False)


def _default_tables(inputs: Inputs, form: str) -> list[str]:
    if not inputs.runs:
        return ["profile"]
    return ["accuracy", *(["averages", "cut"] if form in ("text", "markdown") else [])]


def _table(name: str, inputs: Inputs, by: str) -> Table:
    from deltamem_eval.reports.against_paper import paper_table
    from deltamem_eval.reports.averages import averages_table
    from deltamem_eval.reports.cut import cut_table
    from deltamem_eval.reports.frontier import frontier_table
    from deltamem_eval.reports.matrix import matrix_table
    from deltamem_eval.reports.parameters import run_parameters_table
    from deltamem_eval.reports.profile import profile_table
    from deltamem_eval.reports.retention import retention_table
    from deltamem_eval.reports.summary import summary_table

    runs = inputs.runs
    makers = {
        "accuracy": lambda: summary_table(runs, _parts(by)),
        "averages": lambda: averages_table(runs),
        "cut": lambda: cut_table(runs),
        "matrix": lambda: matrix_table(runs, by),
        "frontier": lambda: frontier_table(runs),
        "retention": lambda: retention_table(runs),
        "parameters": lambda: run_parameters_table(runs),
        "paper": lambda: paper_table(runs),
        "profile": lambda: profile_table(inputs.profiles),
    }
    if name not in makers:
        raise unknown("table", name, makers)
    if not (inputs.profiles if name == "profile" else runs):
        raise UserError(f"table {name} needs the folder of a {'profile' if name == 'profile' else 'run'}")
    return makers[name]()


def _parts(by: str) -> tuple[str, ...]:
    return tuple(part for part in by.split(",") if part)


def _write(
    runs: list[Path], by: str | None, form: str, table: str, out: Path, style: Path | None, trace: str | None
) -> None:
    from deltamem_eval.reports.write import parse_formats, write_report

    if table:
        raise UserError("--out writes every table: leave out --table")
    formats = parse_formats(form)
    if any(path.suffix == ".zip" for path in runs):
        if len(runs) != 1 or (by, style, trace) != (None, None, None):
            raise UserError("a bundle is reported alone, with its own --by, --style and --trace: give none")
        _rebuild(runs[0], form, out)
        return
    inputs, wanted = prepared(runs, _BY if by is None else by, formats, style, trace)
    if by is not None and not inputs.runs:
        raise UserError("table profile is not broken down: leave out --by")
    written = write_report(inputs, wanted, out)
    typer.echo(f"{len(written)} files in {out}")


def prepared(
    paths: Sequence[Path], by: str, formats: tuple[str, ...], style: Path | None, trace: str | None
) -> tuple[Inputs, Wanted]:
    """Inputs told apart and checked, and what is wanted of them; records the trace that is asked for."""
    from deltamem_eval.reports.artefacts import sort_inputs
    from deltamem_eval.reports.write import Wanted

    inputs = sort_inputs(paths)
    if style is not None:
        from deltamem_eval.reports.figures.style import load_style

        load_style(style)
    return inputs, Wanted(formats, _parts(by), style, _traces(inputs, trace) if trace else ())


def _traces(inputs: Inputs, episode: str) -> tuple[Path, ...]:
    """The traces of an episode, of the first run that holds it, recorded now where they are not there yet."""
    from deltamem_eval.tracing import record_trace

    if not inputs.runs:
        raise UserError("--trace needs the folder of a run")
    failures = []
    for run in inputs.runs:
        try:
            return tuple(record_trace(run, episode))
        except UserError as error:
            failures.append(error)
    raise failures[0]


def _rebuild(file: Path, form: str, out: Path) -> None:
    from deltamem_eval.reports.bundle import opened, rebuild
    from deltamem_eval.reports.write import parse_formats

    with opened(file) as bundle:
        written, differing = rebuild(bundle, out, parse_formats(form) if form else None)
    typer.echo(f"{len(written)} files in {out}")
    if differing:
        was = ", ".join(f"{name} {version}" for name, version in bundle.versions.items())
        names = ", ".join(differing[:5])
        typer.echo(f"note: {len(differing)} differ from the bundle's own, made with {was}: {names}")
    else:
        typer.echo("every file is the bundle's own, byte for byte")
