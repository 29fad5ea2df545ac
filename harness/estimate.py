"""What a run would ask of a backbone, before it starts: cells, questions, tokens and device time.

Needs the backbone's tokenizer and config, not its weights. Device time is arithmetic, not measured: two
floating-point operations a parameter and token, at a rate that is assumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deltamem_eval.cells import Cell, plan
from deltamem_eval.errors import UnavailableError, UserError
from deltamem_eval.interface import Episode
from deltamem_eval.overhead import ModelShape
from deltamem_eval.registry import METHODS, TASKS
from deltamem_eval.reports.table import Cell as TableCell
from deltamem_eval.reports.table import Column, Table
from deltamem_eval.shapes import meant
from deltamem_eval.tokens import NOT_LOADED, Counter, why

if TYPE_CHECKING:
    from deltamem_eval.session import Request

TFLOPS = 160.0  # of one H100 in bfloat16, at about 40 % of what it is sold for beside a batch of one
_COLUMNS = (
    Column("task", "task"),
    Column("method", "method"),
    Column("window", "window"),
    Column("cells", "cells", "count"),
    Column("contexts", "contexts", "count"),
    Column("questions", "questions", "count"),
    Column("written", "tokens written", "count"),
    Column("read", "tokens read", "count"),
    Column("hours", "device hours (estimate)", "hours"),
)


class Meter(Counter):
    """A backbone's name, tokenizer and shape, in place of the backbone."""

    def __init__(self, name: str) -> None:
        from deltamem_eval.backbone import source_of
        from transformers import AutoConfig

        try:
            config = AutoConfig.from_pretrained(source_of(name), trust_remote_code=False)
        except NOT_LOADED as error:
            near = meant(name)
            hint = f" (did you mean {near}?)" if near else ""
            raise UserError(f"cannot load the tokenizer and config of '{name}': {why(error)}{hint}") from None
        self.shape = ModelShape.from_config(config.get_text_config().to_dict())
        super().__init__(name, self.shape.positions)


@dataclass
class _Sum:
    """What the cells of one method and window add up to."""

    cells: int = 0
    contexts: int = 0
    questions: int = 0
    written: int = 0
    read: int = 0


def estimate(request: Request, meter: Meter, tflops: float) -> Table:
    """Cells, questions, tokens and device hours of a checked request, by method and window.

    Written: context tokens that run through the backbone when a method writes. Read: prompts, a window once a
    context, and the tokens generated at most. Retrieval and compression build a prompt for each question.
    Where the task's data are not to be had here, all but the cells are unknown, and a footnote says why.
    """
    seeds = list(request.seeds if TASKS.load(request.task).seeded else request.seeds[:1])
    episodes, reason = _episodes(request, meter, seeds)
    sums: dict[tuple[str, str], _Sum] = {}
    for cell in plan(list(request.methods), {request.task: seeds}, list(request.windows), request.controls):
        window = "all that fits" if cell.window is None else str(cell.window)
        found = sums.setdefault((cell.label, window), _Sum())
        found.cells += 1
        _add(found, cell, episodes.get(cell.seed, ()), meter)
    total = _Sum(*(sum(getattr(item, name) for item in sums.values()) for name in _Sum.__dataclass_fields__))
    rows = [
        _row(request.task_name, method, window, found, None if reason else _hours(found, meter, tflops))
        for (method, window), found in [*sums.items(), (("all", ""), total)]
    ]
    caption = (
        f"An estimate, nothing was run: 2 × {meter.shape.parameters:,} operations a token at {tflops:g} "
        "TFLOP/s; attention, generation one token at a time and loading come on top."
    )
    notes = (*((reason,) if reason else ()), *_settings(request))
    return Table("What a run would ask", _COLUMNS, tuple(rows), caption, notes)


def _settings(request: Request) -> tuple[str, ...]:
    """A sentence that names the task options, the user's and a suite's; none where there are none."""
    told = ", ".join(f"{name}={value}" for name, value in request.task_options.items())
    return (f"Task options: {told}.",) if told else ()


def _episodes(
    request: Request, meter: Meter, seeds: Sequence[int]
) -> tuple[dict[int, list[Episode]], str | None]:
    """Episodes by seed; or none, and why they are unknown."""
    from deltamem_eval.session import make_task

    try:
        task = make_task(request)
        task.prepare(meter)
        return {seed: list(task.episodes(seed, request.limit)) for seed in seeds}, None
    except UnavailableError as error:
        return {}, f"Unknown: {error}."


def _add(found: _Sum, cell: Cell, episodes: Sequence[Episode], meter: Meter) -> None:
    kind = METHODS.load(cell.method)
    for episode in episodes:
        context = meter.length(episode.context)
        window = min(context, meter.positions, *(() if cell.window is None else (cell.window,)))
        asked = [meter.length(query.prompt) + query.max_new_tokens for query in episode.queries]
        found.contexts += 1
        found.questions += len(asked)
        found.written += context if kind.writes_through else 0
        found.read += sum(asked) + window * (len(asked) if kind.prompt_each else 1)


def _hours(found: _Sum, meter: Meter, tflops: float) -> float:
    return 2 * meter.shape.parameters * (found.written + found.read) / (tflops * 1e12) / 3600


def _row(task: str, method: str, window: str, found: _Sum, hours: float | None) -> tuple[TableCell, ...]:
    """hours: None where nothing but the number of cells is known."""
    head = (TableCell(task), TableCell(method), TableCell(window), TableCell(float(found.cells)))
    counts = (found.contexts, found.questions, found.written, found.read)
    if hours is None:
        return (*head, *(TableCell("unknown") for _ in (*counts, hours)))
    return (*head, *(TableCell(float(count)) for count in counts), TableCell(hours))
