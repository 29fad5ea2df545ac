"""What a run is held against: a tracked table with the samples stored beside it, or another run's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deltamem_eval.errors import UserError
from deltamem_eval.files import write_atomic
from deltamem_eval.reports.compare.rows import Key, Row, name_of, rows_of
from deltamem_eval.reports.groups import load_groups, with_task
from deltamem_eval.reports.regress.facts import Facts, Line, facts_of, read_lines
from deltamem_eval.reports.regress.samples import read_stored, samples_text, with_context_prompts
from deltamem_eval.reports.render.plain import to_csv
from deltamem_eval.reports.summary import summary_table
from deltamem_eval.reports.unfinished import partial_notes
from deltamem_eval.store import RunRecord, read_run

_MEASURED = ("write_seconds", "answer_seconds")


@dataclass(frozen=True)
class Baseline:
    """Rows with their questions, where these are known, and the lines of a table, where there is one.

    by: the breakdown. identities: fields of the cells' identities that decide the questions. runs: one line
    on each run it came from. notes: what must be said of it.
    """

    path: Path
    by: tuple[str, ...]
    rows: Mapping[Key, Row] = field(default_factory=dict)
    lines: Mapping[Key, Line] = field(default_factory=dict)
    identities: tuple[Mapping[str, Any], ...] = ()
    runs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[Key, ...]:
        """Every row's key, in the table's order."""
        return tuple(self.lines or self.rows)

    def facts(self, row: Row) -> Facts:
        """The numbers of one of its rows, or of a part of its questions; seconds are the whole row's."""
        line = self.lines.get(row.key)
        return facts_of(row) if line is None else {**facts_of(row), **{m: line.facts[m] for m in _MEASURED}}


def samples_file(table: Path) -> Path:
    """Where the questions behind a tracked table lie."""
    return table.parent / "provenance" / f"{table.stem}.samples.jsonl"


def read_baseline(path: Path, by: Sequence[str] | None = None) -> Baseline:
    """A baseline. by: the breakdown, for a run's folder; a table has its own.

    Raises UserError for what is neither a run nor a table of `report --format csv`, and for a table that
    disagrees with its samples.
    """
    if path.is_dir():
        return _of_run(path, tuple(by or ("category",)))
    if not path.exists():
        raise UserError(f"{path}: no such baseline; --update makes one from the run")
    names, lines = _read_table(path, by)
    file = samples_file(path)
    if not file.exists():
        note = (
            f"{path.name} has no samples beside it ({file}): rows are compared by their intervals, unpaired, "
            "a quarter of an interval's width standing for its standard error; whether questions and prompts "
            "are the same and which flipped is not known, so that only the statistical rule and added "
            "parameters are held to anything. --update stores them."
        )
        return Baseline(path, names, lines=lines, notes=(note,))
    stored = read_stored(file)
    rows = rows_of(stored.groups, names)
    _check_agreement(path, lines, rows)
    runs = [_told(run) for run in stored.header.runs]
    identities = tuple(
        {name: getattr(scope, name) for name in ("task", "data", "seed", "limit", "prompts")}
        for scope in stored.scopes
    )
    return Baseline(path, names, rows, lines, identities, tuple(dict.fromkeys(runs)))


def _read_table(path: Path, by: Sequence[str] | None) -> tuple[tuple[str, ...], dict[Key, Line]]:
    names, lines = read_lines(path)
    if by is not None and tuple(by) != names:
        raise UserError(f"{path} is broken down by {','.join(names)}, not by {','.join(by)}")
    return names, lines


def _of_run(path: Path, by: tuple[str, ...]) -> Baseline:
    record = read_run(path)
    groups, cells = load_groups([path])
    by = with_task(groups, by)
    return Baseline(
        path,
        by,
        rows_of(with_context_prompts(groups), by),
        identities=tuple(cell.identity for cell in cells),
        runs=(_told(record),),
        notes=partial_notes([path]),
    )


def _told(run: RunRecord) -> str:
    code = "" if run.code is None else f"code {run.code}, "
    return f"{code}commit {(run.commit or 'unknown')[:12]}, {run.device or 'unknown device'}"


def _check_agreement(path: Path, lines: Mapping[Key, Line], rows: Mapping[Key, Row]) -> None:
    """Raises UserError where a table and its samples are not of the same runs."""
    unlike = [key for key in {**lines, **rows} if key not in lines or key not in rows]
    unlike = unlike or [
        key
        for key, line in lines.items()
        if line.n != len(rows[key].members)
        or abs((line.facts["accuracy"] or 0.0) - (facts_of(rows[key])["accuracy"] or 0.0)) > 1e-9
    ]
    if unlike:
        raise UserError(
            f"{path} and {samples_file(path)} are not of the same runs ({name_of(unlike[0])}): make both "
            "again by --update"
        )


def update(path: Path, runs: Sequence[Path], by: Sequence[str] | None = None) -> tuple[Path, Path]:
    """Write the table of some runs and the samples behind it; returns both files.

    by: the breakdown, by default that of the table there is, else the category; of several tasks by task
    too. Raises UserError, writing
    nothing, for a run's folder as the baseline, for runs that have not ended, for a place that cannot be
    written, and where rows of the table there is would be lost.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder: --update writes a table, name a CSV file")
    names, old = _read_table(path, by) if path.exists() else (tuple(by or ("category",)), {})
    if notes := partial_notes(runs):
        raise UserError(f"{notes[0].rstrip('.')}; a baseline is made of whole runs")
    groups, cells = load_groups(runs)
    names = with_task(groups, names)
    rows = rows_of(groups, names)
    lost = [key for key in old if key not in rows]
    if lost:
        raise UserError(
            f"{len(lost)} rows of {path} are not in the run and would be lost ({name_of(lost[0])}...): give "
            "the runs of all of them, or remove the file first"
        )
    records = [read_run(run) for run in runs]
    texts = {
        samples_file(path): samples_text(groups, cells, records, names),
        path: to_csv(summary_table(runs, names)),
    }
    try:
        samples_file(path).parent.mkdir(exist_ok=True)
        for file, text in texts.items():
            write_atomic(file, text)
    except OSError as error:
        raise UserError(f"cannot write to {path.parent}: {error.strerror or error}") from None
    return path, samples_file(path)
