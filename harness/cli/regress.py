"""`regress`: a run against a tracked baseline, for CI."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from deltamem_eval.cli.output import BREAKDOWNS, check_file, check_seed, write_file
from deltamem_eval.errors import UserError

if TYPE_CHECKING:
    from deltamem_eval.reports.regress.verdicts import Verdicts


def regress(
    baseline: Annotated[
        Path, typer.Argument(metavar="BASELINE", help="a table of `report`, a run, or a CSV of benchmarks")
    ],
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="folders of finished runs, pooled; or one CSV of benchmarks"),
    ],
    rules: Annotated[
        Path | None, typer.Option(help="TOML file of rules, in place of the default ones")
    ] = None,
    by: Annotated[
        str | None, typer.Option(help=f"where the baseline is a run or is made, {BREAKDOWNS}")
    ] = None,
    subset: Annotated[
        bool, typer.Option("--subset", help="leave out rows and seeds that only the baseline has")
    ] = False,
    update: Annotated[
        bool, typer.Option("--update", help="write the baseline anew from the runs, with its samples")
    ] = False,
    markdown: Annotated[Path | None, typer.Option(help="write a comment for a pull request there")] = None,
    junit: Annotated[Path | None, typer.Option(help="write JUnit XML there")] = None,
    github: Annotated[bool, typer.Option("--github", help="print GitHub annotations")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON, every flipped question in it")] = False,
    bootstrap_seed: Annotated[int, typer.Option(help="seed of the resampling")] = 0,
) -> None:
    """Hold a run against a baseline; exit code 0 where nothing is worse, 1 where something is.

    A row is a method at a window in a category. Rows that vanished are failures; new ones are shown. A CSV of
    `make bench` is held against another one by its ratios.
    """
    from deltamem_eval.reports.regress.output import to_annotations, to_comment, to_junit, to_plain

    if as_json and github:
        raise UserError("--json and --github both print: give one, or run twice")
    check_seed(bootstrap_seed)
    names = None if by is None else tuple(part for part in by.split(",") if part)
    if update:
        judged = {"--rules": rules, "--subset": subset, "--bootstrap-seed": bootstrap_seed}
        shown = {"--markdown": markdown, "--junit": junit, "--github": github, "--json": as_json}
        _check_update(judged, shown)
        written = _update(baseline, runs, names)
        typer.echo(f"wrote {' and '.join(map(str, written))}")
        return
    for file in (markdown, junit):
        if file is not None:
            check_file(file)
    found = _judge(baseline, runs, rules, names, subset, bootstrap_seed)
    if markdown is not None:
        write_file(markdown, to_comment(found))
    if junit is not None:
        write_file(junit, to_junit(found))
    if as_json:
        typer.echo(json.dumps(to_plain(found), indent=2, ensure_ascii=False))
    else:
        _print(found)
    if github:
        typer.echo(to_annotations(found), nl=False)
    if found.failed:
        raise typer.Exit(1)


def _check_update(*others: Mapping[str, object]) -> None:
    """Raises UserError for an option that was given and would have no effect beside --update."""
    given = [name for options in others for name, value in options.items() if value]
    if given:
        raise UserError(f"--update judges nothing and only says what it wrote: leave out {', '.join(given)}")


def _of_benchmarks(files: list[Path], names: tuple[str, ...] | None) -> bool:
    """Whether any is a CSV of benchmarks. Raises UserError where it is and a breakdown was asked for."""
    from deltamem_eval.reports.regress.ratios import is_bench

    found = any(map(is_bench, files))
    if found and names is not None:
        raise UserError("--by breaks runs down: a CSV of benchmarks has no breakdown")
    return found


def _update(baseline: Path, runs: list[Path], names: tuple[str, ...] | None) -> tuple[Path, ...]:
    from deltamem_eval.reports.regress.baseline import update
    from deltamem_eval.reports.regress.ratios import update_ratios

    if _of_benchmarks([baseline, *runs], names):
        return update_ratios(baseline, runs)
    return update(baseline, runs, names)


def _judge(
    baseline: Path,
    runs: list[Path],
    rules: Path | None,
    names: tuple[str, ...] | None,
    subset: bool,
    seed: int,
) -> Verdicts:
    from deltamem_eval.reports.regress.baseline import read_baseline
    from deltamem_eval.reports.regress.ratios import judge_ratios
    from deltamem_eval.reports.regress.rules import read_rules
    from deltamem_eval.reports.regress.verdicts import judge

    bench = _of_benchmarks([baseline, *runs], names)
    read = read_rules(rules, bench=bench)
    if bench:
        return judge_ratios(baseline, runs, read, subset=subset)
    return judge(read_baseline(baseline, names), runs, read, subset=subset, seed=seed)


def _print(found: Verdicts) -> None:
    """The rows, the flipped questions where something failed, and the outcome."""
    from deltamem_eval.cli.run import print_table
    from deltamem_eval.reports.regress.output import FLIPS
    from deltamem_eval.reports.regress.tables import flipped, verdict_table

    print_table(verdict_table(found))
    flips = flipped(found, FLIPS)
    if found.failed and flips.rows:
        print_table(flips)
    typer.echo(f"{'regression' if found.failed else 'no regression'}: {found.summary}")
