"""What a protocol cut of the contexts before any method saw them, source by source."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean

from deltamem_eval.reports.groups import Group, Members, caption_of, key_of, load_groups
from deltamem_eval.reports.table import Cell, Column, Table
from deltamem_eval.store import Sample

_PROTOCOL = "data.protocol"
_COLUMNS = (
    Column("task", "task"),
    Column("backbone", "backbone"),
    Column("protocol", "protocol"),
    Column("input_limit", "input limit", "count"),
    Column("buffer", "buffer", "count"),
    Column("counted_by", "tokens counted by"),
    Column("source", "source"),
    Column("contexts", "contexts", "count"),
    Column("context_cut", "context tokens cut %", "percent", False),
    Column("gold_survives", "gold survives the cut %", "percent", True),
)
CUT_BY = (
    "Context tokens cut: by the protocol, before any method is given the context; mean over contexts, in "
    "tokens of what the protocol cuts by, the backbone's where it cuts by characters."
)
_FOOTNOTES = (
    f"{CUT_BY} Gold survives: share of the questions whose evidence, or an acceptable answer's text where "
    "that is not known, is in what is left. The same for every method; a window may leave less of it.",
)
BY_CHARACTERS = "Share of characters: stored before tokens were counted."
_Asked = tuple[str | float | None, ...]


def cut_table(paths: Sequence[Path]) -> Table:
    """One row for each protocol and source of runs in which any context was cut; none where none was.

    Raises UserError as `load_groups`.
    """
    groups, records = load_groups(paths)
    found: defaultdict[_Asked, Members] = defaultdict(list)
    for group in groups:
        for scope, sample in group.samples:
            if sample.extras.get("context_cut") is not None:
                found[(*_asked(group), sample.source)].append((scope, sample))
    cut = {asked[:-1] for asked, members in found.items() if any(map(_is_cut, members))}
    rows = tuple(
        _row(asked, members)
        for asked, members in sorted(found.items(), key=lambda item: [str(part) for part in item[0]])
        if asked[:-1] in cut
    )
    caption = caption_of(groups, records) if rows else "No context was cut by a protocol."
    return Table(
        "What the protocol cut", _COLUMNS, rows, caption, _FOOTNOTES if rows else (), name="protocol-cut"
    )


def context_cut(samples: Iterable[Sample]) -> Cell:
    """Mean share of tokens cut, of one sample a context; of characters, with a note, where only these are
    stored; a dash where nothing is.
    """
    told = [sample.extras for sample in samples]
    values = [extras.get("tokens_cut", extras.get("context_cut")) for extras in told]
    known = [value for value in values if value is not None]
    old = any(extras.get("context_cut") and "tokens_cut" not in extras for extras in told)
    return Cell(fmean(known) if known else None, n=len(known), note=BY_CHARACTERS if old else None)


def _asked(group: Group) -> _Asked:
    """What decides what is cut: task, backbone, protocol and its limits, and what tokens are counted by."""
    setting = group.setting
    return (
        group.task,
        str(setting["model"]),
        setting.get(_PROTOCOL),
        *(setting.get(f"data.{name}") for name in ("input_limit", "buffer")),
        setting.get("data.counted_by") or "the backbone's tokenizer",
    )


def _is_cut(member: tuple[str, Sample]) -> bool:
    return bool(member[1].extras["context_cut"] > 0)


def _row(asked: _Asked, members: Members) -> tuple[Cell, ...]:
    questions = {key_of(scope, sample): sample for scope, sample in members}
    contexts = {(scope, sample.cluster): sample for scope, sample in members}
    survives = [sample.extras.get("gold_survives") for sample in questions.values()]
    known = [value for value in survives if value is not None]
    return (
        *map(Cell, asked),
        Cell(float(len(contexts))),
        context_cut(contexts.values()),
        Cell(fmean(known) if known else None, n=len(known)),
    )
