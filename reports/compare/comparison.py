"""Two stored runs against each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deltamem_eval.errors import UserError
from deltamem_eval.exhibits import read_contexts
from deltamem_eval.reports.compare.difference import (
    Difference,
    adjusted,
    paired_differences,
    unpaired_difference,
)
from deltamem_eval.reports.compare.pairing import (
    Pair,
    Wordings,
    beside,
    pairs_of,
    refuse_judges,
    same_reading,
    unlike_data,
    unlike_prompts,
    unlike_questions,
)
from deltamem_eval.reports.compare.rows import Key, Row, listed, name_of, rows_of
from deltamem_eval.reports.compare.selection import match
from deltamem_eval.reports.groups import Group, judge_of, judges_line, load_groups, with_task
from deltamem_eval.reports.unfinished import partial_notes
from deltamem_eval.store import RunRecord, read_run

_NAMED = ("method", "control", "window")  # settings that a row's key already tells
_BACKBONE = ("model", "weights", "dtype")  # all that two methods' settings have to share


@dataclass(frozen=True)
class Comparison:
    """B against A, row by row.

    by: the breakdown's names. paired: whether questions were paired. seed: of the resampling. notes: what a
    reader must know beside the numbers, one sentence each. judges: a sentence that names the judges of
    either side's answers, empty where there are none.
    """

    a: Path
    b: Path
    by: tuple[str, ...]
    paired: bool
    seed: int
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]
    judges: str = ""


@dataclass(frozen=True)
class _Side:
    record: RunRecord
    identities: list[dict[str, Any]]
    groups: list[Group]
    wordings: Wordings


def compare(
    a: Path,
    b: Path,
    by: Sequence[str] = ("category",),
    *,
    choices: tuple[str | None, str | None] = (None, None),
    unpaired: bool = False,
    seed: int = 0,
) -> Comparison:
    """Compare two runs on the questions both answered.

    choices: NAME[@WINDOW] of A and of B, to compare two methods rather than rows of one name. unpaired: as
    two samples, whatever they were asked. seed: of the resampling. Raises UserError for what is no run, for
    runs that share no row, and, unless unpaired, for runs that did not see the same questions or, with
    nothing to explain it, not the same prompts.
    """
    first, second = _side(a), _side(b)
    by = _breakdown(first.groups, second.groups, by)
    matched = match(rows_of(first.groups, by), rows_of(second.groups, by), *choices)
    partial = partial_notes((a,) if a == b else (a, b))
    if unpaired:
        many = len(matched.rows)
        found = [unpaired_difference(key, *rows, seed, many) for key, rows in matched.rows.items()]
    else:
        told = unlike_data(first.identities, second.identities)
        _refuse(list(told.values()), "", partial)
        wordings = first.wordings, second.wordings
        pairs = {key: _checked_pairs(key, *rows, wordings, partial) for key, rows in matched.rows.items()}
        found = paired_differences(pairs, seed)
    samples = [sample for pair in matched.rows.values() for row in pair for _, sample in row.members]
    notes = (
        *_judge_notes(matched.rows.items() if unpaired else ()),
        *_left_over("A", matched.only_a),
        *_left_over("B", matched.only_b),
        *setting_notes(matched.rows.values()),
        *_record_notes(first.record, second.record),
        *partial,
    )
    return Comparison(a, b, by, not unpaired, seed, tuple(adjusted(found)), notes, judges_line(samples))


def _breakdown(a: Sequence[Group], b: Sequence[Group], by: Sequence[str]) -> tuple[str, ...]:
    """The breakdown of either side, by the task too where a side holds several."""
    return with_task(b, with_task(a, by))


def _side(path: Path) -> _Side:
    record = read_run(path)
    groups, cells = load_groups([path])
    wordings = {
        key: asked.prompt.head + (f" […] {asked.prompt.tail}" if asked.prompt.cut else "")
        for key, asked in read_contexts(path).items()
    }
    return _Side(record, [cell.identity for cell in cells], groups, wordings)


def _checked_pairs(
    key: Key, a: Row, b: Row, wordings: tuple[Wordings, Wordings], partial: Sequence[str]
) -> list[Pair]:
    """The pairs of two rows whose questions are the same, all of them."""
    pairs = pairs_of(a, b, wordings)
    unlike = unlike_questions(a, b, pairs, wordings)
    if not unlike and same_reading(a.group, b.group):
        unlike = unlike_prompts(pairs)
    _refuse(unlike, name_of(key), partial)
    refuse_judges(pairs, name_of(key), hint=", or --unpaired compares their means alone")
    return pairs


def _judge_notes(rows: Iterable[tuple[Key, tuple[Row, Row]]]) -> list[str]:
    """One sentence for each row whose sides were judged otherwise."""
    notes = []
    for key, (a, b) in rows:
        first, second = _judges(a), _judges(b)
        if first != second:
            notes.append(f"{name_of(key)}: not judged alike ({beside(first, second)}).")
    return notes


def _judges(row: Row) -> str:
    """Who scored a row's answers."""
    judges = {judge_of(sample) or "no judge" for _, sample in row.members if sample.status == "ok"}
    return ", ".join(sorted(judges)) or "nothing answered"


def _refuse(unlike: Sequence[str], where: str, partial: Sequence[str]) -> None:
    """Raises UserError where anything differs that makes the questions others."""
    if unlike:
        raise UserError(
            f"the runs did not see the same prompts{where and f' ({where})'}, differing in "
            f"{', '.join(unlike)}: --unpaired compares their means alone"
            + "".join(f"; {note.rstrip('.')}" for note in partial)
        )


def _left_over(side: str, keys: Sequence[Key]) -> list[str]:
    return [f"Only in {side}, not compared: {listed(keys)}."] if keys else []


def setting_notes(rows: Iterable[tuple[Row, Row]], sides: tuple[str, str] = ("A", "B")) -> list[str]:
    """One sentence for each setting in which rows differ: of two methods, their backbone; else all but the
    name and window.
    """
    found: dict[str, list[str]] = {}
    for a, b in rows:
        names = a.group.setting if a.group.method == b.group.method else _BACKBONE
        for name in names:
            left, right = a.group.setting.get(name), b.group.setting.get(name)
            if name not in _NAMED and left != right:
                labels = found.setdefault(f"{name} ({beside(left, right, sides)})", [])
                labels += [a.group.label] if a.group.label not in labels else []
    return [f"{', '.join(labels)}: other {what}." for what, labels in found.items()]


def _record_notes(a: RunRecord, b: RunRecord) -> list[str]:
    """One sentence on code, commit, device and versions where they differ."""
    pairs = {name: (getattr(a, name), getattr(b, name)) for name in ("code", "commit", "device")}
    pairs |= {
        name: (a.versions.get(name), b.versions.get(name)) for name in sorted({*a.versions, *b.versions})
    }
    unlike = [
        f"{name} ({beside(left or 'unknown', right or 'unknown')})"
        for name, (left, right) in pairs.items()
        if left != right
    ]
    return [f"Made with other {', '.join(unlike)}."] if unlike else []
