"""Memory and speed by context length: a profile's points as a table."""  # noqa: A005

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from deltamem_eval.errors import UserError
from deltamem_eval.profiling.request import ProfileRequest
from deltamem_eval.profiling.store import PointRecord, ProfileRecord, read_profile
from deltamem_eval.reports.table import Cell, Column, Table

_COLUMNS = (
    Column("method", "method"),
    Column("mode", "mode"),
    Column("prompt_tokens", "context tokens", "count"),
    Column("decode_tokens", "new tokens", "count"),
    Column("weights_bytes", "weights", "bytes", False),
    Column("prefill_peak_bytes", "prefill peak", "bytes", False),
    Column("decode_peak_bytes", "decode peak", "bytes", False),
    Column("resident_bytes", "held after", "bytes", False),
    Column("peak_bytes", "peak", "bytes", False),
    Column("prefill_seconds", "first token after s", "seconds", False),
    Column("prefill_speed", "context tokens/s", "count", True),
    Column("decode_speed", "new tokens/s", "count", True),
    Column("status", "status"),
)
_PHASES = (
    "Bytes are all that is in use, weights included: the most from the empty memory to the answer's first "
    "token (prefill) and from there to its last (decode), and what is still held then for the next question. "
    "The time to the first token is all that a method does with a context, and its reading of the question."
)
_ASSUMED = (
    "The methods' own code ran on tensors without values; fused attention is assumed, and what the device's "
    "libraries and the allocator take for themselves is not in the numbers."
)


def profile_table(paths: Sequence[Path]) -> Table:
    """One row a point, in the order of the folders and of what each was asked for; points that were not
    measured yet are left out and counted in a footnote.

    Values are medians over repeats, with the least and the greatest. Raises UserError for a folder that is no
    profile, and for folders of other models, machines, types, repeats or kinds of number.
    """
    found = [read_profile(path) for path in paths]
    records = [record for record, _ in found]
    for path, record in zip(paths, records, strict=True):
        _check_same(paths[0], records[0], path, record)
    rows = tuple(
        _row(point, path.resolve().name)
        for path, (record, points) in zip(paths, found, strict=True)
        for point in _in_order(record, points)
    )
    estimate = bool(records[0].request["estimate"])
    title = "Memory by context length, an estimate" if estimate else "Memory and speed by context length"
    notes = (_PHASES, *([_ASSUMED] if estimate else []), *_missing(paths, found))
    points = [point for _, listed in found for point in listed]
    return Table(title, _COLUMNS, rows, _caption(records, points), notes, "profile")


def _check_same(first: Path, one: ProfileRecord, path: Path, other: ProfileRecord) -> None:
    """Folders may differ in methods, lengths and windows alone."""
    left, right = _identity(one), _identity(other)
    for name, value in left.items():
        if right[name] != value:
            raise UserError(
                f"{first} and {path} cannot stand in one table: {name} is {value!r} and {right[name]!r}"
            )


def _identity(record: ProfileRecord) -> dict[str, object]:
    asked, facts = record.request, record.facts
    return {
        "estimate": asked["estimate"],
        "model": facts["model"],
        "random weights": asked["random_weights"] is not None,
        "dtype": facts["dtype"],
        "device": record.device,
        "repeats": asked["repeats"],
        "warmup": asked["warmup"],
    }


def _in_order(record: ProfileRecord, points: Sequence[PointRecord]) -> list[PointRecord]:
    """As they were asked for, whenever they were measured."""
    order = ("methods", "modes", "prompt_lengths", "decode_lengths")
    places = [{value: place for place, value in enumerate(record.request[name])} for name in order]
    return sorted(
        points, key=lambda item: [place[value] for place, value in zip(places, item.point, strict=True)]
    )


def _row(record: PointRecord, run: str) -> tuple[Cell, ...]:
    measures = record.measures
    prefill, decode = (measures.get(f"{phase}_allocated", []) for phase in ("prefill", "decode"))
    seconds = measures.get("prefill_seconds", [])
    context = record.tokens.get("context", record.prompt_tokens)
    steps = record.decode_tokens - 1  # the first token comes with prefill
    return (
        Cell(record.method, runs=(run,)),
        Cell(_mode(record)),
        Cell(context, note=_shown(record, context)),
        Cell(record.decode_tokens),
        Cell(record.weights.get("allocated")),
        _spread(prefill),
        _spread(decode),
        _spread(measures.get("resident_allocated", [])),
        _spread([max(pair) for pair in zip(prefill, decode, strict=True)]),
        _spread(seconds),
        _spread([context / value for value in seconds]),
        _spread([steps / value for value in measures.get("decode_seconds", [])]),
        Cell(record.status, note=record.error),
    )


def _spread(values: Sequence[float]) -> Cell:
    """Median, least and greatest; a single number as it is, and a dash where nothing was measured."""
    if len(values) < 2:
        return Cell(values[0] if values else None)
    return Cell(median(values), min(values), max(values), len(values))


def _mode(record: PointRecord) -> str:
    """The mode, with its window where it has one."""
    if record.mode == "window":
        return f"window {record.window:,}"
    return f"{record.mode}, window {record.window:,}" if record.window else record.mode


def _shown(record: PointRecord, context: int) -> str | None:
    """A remark where a method put less than the whole context into a prompt that had room for it."""
    shown = record.tokens.get("shown", context)
    if record.window is not None or shown == context:
        return None
    return f"{record.method} chose {shown:,} of these tokens for the prompt"


def _missing(
    paths: Sequence[Path], found: Sequence[tuple[ProfileRecord, Sequence[PointRecord]]]
) -> list[str]:
    """A remark for each folder that lacks points it was asked for."""
    notes = []
    for path, (record, points) in zip(paths, found, strict=True):
        asked = len(ProfileRequest.from_record(record.request).points())
        if len(points) < asked:
            notes.append(f"{path.resolve().name}: {asked - len(points)} of {asked} points are missing.")
    return notes


def _caption(records: Sequence[ProfileRecord], points: Sequence[PointRecord]) -> str:
    """What was profiled, on what, and how."""
    asked, facts = records[0].request, records[0].facts
    random = list(dict.fromkeys(item for record in records for item in record.facts["random"]))
    parts = [
        f"{facts['model']}{' with random weights' if random else ''}, {facts['parameters']:,} parameters, "
        f"{facts['dtype']}."
    ]
    if random:
        parts.append(f"Random, since memory and speed need no trained values: {', '.join(random)}.")
    if facts["positions"] != facts["own_positions"]:
        parts.append(f"Its {facts['own_positions']:,} positions were made {facts['positions']:,}.")
    question = sorted({point.tokens["question"] for point in points if point.tokens})
    if question:
        parts.append(f"Beside the context, {' or '.join(map(str, question))} tokens of question.")
    parts.append("One question at a time, decoded greedily to its full length whatever is said.")
    if asked["estimate"]:
        return " ".join(["An estimate of a GPU's memory, nothing was measured:", *parts])
    measured = (
        f"Measured on {records[0].device}: medians of {asked['repeats']} passes [least, greatest] after "
        f"{asked['warmup']} of warm-up, each point in a process of its own."
    )
    if any("reserved" in point.weights for point in points):
        measured += " Bytes are those handed out by the allocator; reserved and NVML's stand in points.jsonl."
    return " ".join([*parts, measured])
