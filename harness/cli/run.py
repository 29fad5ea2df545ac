"""`run`: methods on a task, then the table."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from deltamem_eval.cli.config import HELP, beside_file, use_file
from deltamem_eval.errors import UserError
from deltamem_eval.suites import SUITES

if TYPE_CHECKING:
    from deltamem_eval.executors import Executor
    from deltamem_eval.reports.table import Table
    from deltamem_eval.session import Request


def run(
    method: Annotated[list[str], typer.Option(help="a method's name; repeat or separate by commas")],
    task: Annotated[str, typer.Option(help="a task's name; `list tasks` has them")] = "embedded",
    suite: Annotated[
        str | None,
        typer.Option(help=f"a named set of tasks in place of --task: {', '.join(SUITES)}"),
    ] = None,
    rows: Annotated[str | None, typer.Option(help="file in MemoryAgentBench's row schema")] = None,
    protocol: Annotated[
        str | None, typer.Option(help="isolated, official or delta-mem-release; for MemoryAgentBench's rows")
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(help="own, or MemoryAgentBench's: official, official-rag or official-agentic"),
    ] = None,
    model: Annotated[str, typer.Option(help="embedded, a local folder, or a hub name")] = "embedded",
    adapter: Annotated[
        str | None, typer.Option(help="folder or hub name of the method's trained weights")
    ] = None,
    window: Annotated[
        list[str] | None,
        typer.Option(
            help="context tokens in the prompt; repeat or separate by commas; else 64 for the embedded "
            "model, 4096 for any other, 120000 for --suite paper"
        ),
    ] = None,
    seeds: Annotated[str, typer.Option(help="seeds of the episodes, separated by commas")] = "0",
    limit: Annotated[
        int | None, typer.Option(help="episodes a category, documents of a task of lm-eval; for trying out")
    ] = None,
    no_controls: Annotated[bool, typer.Option("--no-controls", help="leave the controls out")] = False,
    option: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE, a method's own setting; `show METHOD` has them", callback=beside_file),
    ] = None,
    task_option: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE, a task's own setting; `show TASK` has them", callback=beside_file),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1..., or spread over all GPUs")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16")] = "auto",
    batch_size: Annotated[str, typer.Option(help="questions at once; auto halves when memory ends")] = "auto",
    timeout: Annotated[
        float | None,
        typer.Option(help="seconds for writing a context, or answering a batch; later ones count as wrong"),
    ] = None,
    executor: Annotated[
        str, typer.Option(help="local: this process; ray: workers on many devices and machines")
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(help="ray's cluster: auto, HOST:PORT or ray://HOST:PORT; else ray starts here"),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="ray's workers; else one for each GPU, or for each core")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="the run's folder; else one in runs/, the same for the same request")
    ] = None,
    judge: Annotated[
        str | None, typer.Option(help="address of a language model that judges what needs judging")
    ] = None,
    judge_model: Annotated[str | None, typer.Option(help="the judge's name there")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print the table as JSON")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="count cells and tokens, run nothing")] = False,
    tflops: Annotated[float, typer.Option(help="assumed rate of the device, for --dry-run")] = 160.0,
    config: Annotated[Path | None, typer.Option(help=HELP, callback=use_file, is_eager=True)] = None,
) -> None:
    """Run methods with their controls and print accuracy and cost; after a stop the same command goes on."""
    from deltamem_eval.cli.judge import judge_asked, judge_or_note
    from deltamem_eval.executors import open_executor
    from deltamem_eval.session import Request

    endpoint = judge_asked(judge, judge_model)
    request = Request(
        methods=tuple(name for item in method for name in item.split(",") if name),
        model=model,
        task=task,
        rows=rows,
        adapter=adapter,
        windows=() if window is None else _numbers("--window", "window", ",".join(window)),
        seeds=_numbers("--seeds", "seed", seeds),
        limit=limit,
        controls=not no_controls,
        device=device,
        dtype=dtype,
        batch_size=_batch_size(batch_size),
        timeout=timeout,
        options=parse_options(option or []),
        task_options=_task_options(task_option or [], {"protocol": protocol, "prompts": prompts}),
    )
    _check_options(request)
    requests = _checked(request, suite)
    if dry_run:
        _estimate(requests, tflops, as_json)
        return
    _check_data(requests)
    folders = []
    with open_executor(executor, address, workers) as running:  # one for all: weights load once
        for part in requests:
            folder = out or part.default_folder()
            folders.append(folder / part.task_name.replace(":", "-") if suite and out else folder)
            _execute(running, part, folders[-1], quiet)
            if endpoint is not None:
                judge_or_note(folders[-1], endpoint)
    _print(folders, as_json)


def _task_options(pairs: list[str], named: dict[str, str | None]) -> dict[str, Any]:
    """The task's settings. named: by flags of their own. Raises UserError for one given both ways."""
    found = parse_options(pairs, "--task-option")
    for name, value in named.items():
        if value is not None and name in found:
            raise UserError(f"--{name} and --task-option {name}= are one setting: give one of them")
    return found | {name: value for name, value in named.items() if value is not None}


def _checked(request: Request, suite: str | None) -> list[Request]:
    """The request, or one for every task of a suite, all checked before anything runs."""
    from dataclasses import replace

    from deltamem_eval.errors import unknown
    from deltamem_eval.registry import TASKS
    from deltamem_eval.session import check
    from deltamem_eval.suites import check_options, options_of

    if suite is None:
        request = check(request)
        _check_flags(request)
        return [request]
    if suite not in SUITES:
        raise unknown("suite", suite, SUITES)
    if request.task != "embedded" or request.rows is not None:
        raise UserError("--suite names its tasks: leave out --task and --rows")
    parts, made = SUITES[suite].parts, []
    request = replace(request, windows=request.windows or SUITES[suite].windows)
    known = {part.task: TASKS.load(part.kind).defaults for part in parts}
    check_options(parts, request.task_options, known)
    for part in parts:
        options = options_of(part, request.task_options, known[part.task])
        made.append(check(replace(request, task=part.task, task_options=options)))
    return made


def _check_flags(request: Request) -> None:
    """Raises UserError for --protocol or --prompts where the task has no such setting."""
    from deltamem_eval.registry import TASKS

    for name in ("protocol", "prompts"):
        if name in request.task_options and name not in TASKS.load(request.task).defaults:
            raise UserError(f"--{name} is for MemoryAgentBench's rows: task {request.task} has no {name}")


def _check_options(request: Request) -> None:
    """Raises UserError for an option that no method of the request has."""
    from deltamem_eval.methods.options import check_names
    from deltamem_eval.registry import METHODS

    known = {name for method in request.methods for name in METHODS.load(method).defaults}
    check_names(", ".join(request.methods), known, request.options)


def _check_data(requests: list[Request]) -> None:
    """Open the data of every task of a suite before the first one runs. Raises UserError for any missing."""
    from deltamem_eval.session import make_task

    if len(requests) > 1:
        for request in requests:
            make_task(request)


def _estimate(requests: list[Request], tflops: float, as_json: bool) -> None:
    from deltamem_eval.estimate import Meter, estimate
    from deltamem_eval.reports.render.plain import to_json

    if not 0 < tflops < math.inf:
        raise UserError(f"--tflops must be a number above 0, not {tflops}")
    meter = Meter(requests[0].model)
    for table in [estimate(request, meter, tflops) for request in requests]:
        if as_json:
            typer.echo(to_json(table), nl=False)
        else:
            print_table(table)


def _execute(executor: Executor, request: Request, folder: Path, quiet: bool) -> None:
    from deltamem_eval.cells import plan
    from deltamem_eval.display import Display
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    seeds = list(request.seeds)
    cells = len(plan(list(request.methods), {"": seeds}, list(request.windows), request.controls))
    with Display(cells, quiet) as display:
        executor.execute(request, folder, display)


def _print(folders: list[Path], as_json: bool) -> None:
    from deltamem_eval.reports.averages import averages_table
    from deltamem_eval.reports.cut import cut_table
    from deltamem_eval.reports.render.plain import to_json
    from deltamem_eval.reports.summary import summary_table

    table, averages, cut = summary_table(folders), averages_table(folders), cut_table(folders)
    if as_json:
        beside = {"averages": averages, **({"cut": cut} if cut.rows else {})}
        typer.echo(to_json(table, beside), nl=False)
        return
    for each in (table, averages, *([cut] if cut.rows else [])):
        print_table(each)
    typer.echo(f"stored in {', '.join(map(str, folders))}")


def print_table(table: Table) -> None:
    """A table as wide as the terminal, or 200 columns where there is none."""
    from deltamem_eval.reports.render.terminal import to_terminal
    from rich.console import Console

    console = Console()
    console = console if console.is_terminal else Console(width=200)
    for part in to_terminal(table, console.width):
        console.print(part)


def _numbers(option: str, noun: str, text: str) -> tuple[int, ...]:
    try:
        found = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise UserError(f"{option} takes whole numbers separated by commas, not {text!r}") from None
    if not found:
        raise UserError(f"{option} names no {noun}: give one or more, separated by commas")
    return found


def _batch_size(text: str) -> int:
    if text == "auto":
        return 8
    try:
        return int(text)
    except ValueError:
        raise UserError(f"--batch-size takes a whole number or auto, not {text!r}") from None


def parse_options(pairs: list[str], option: str = "--option") -> dict[str, Any]:
    """NAME=VALUE pairs; values are JSON where they parse as such, else text.

    Raises UserError for a pair that is none, and for a name given twice.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign or not name:
            raise UserError(f"{option} takes NAME=VALUE, not {pair!r}")
        if name in found:
            raise UserError(f"{option} gives {name} twice: keep one")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found
