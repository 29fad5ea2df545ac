"""Every row of a baseline and of a run, and what the rules say of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from deltamem_eval.errors import UserError
from deltamem_eval.reports.compare.comparison import setting_notes
from deltamem_eval.reports.compare.difference import Difference, adjusted, paired_differences
from deltamem_eval.reports.compare.pairing import (
    Pair,
    beside,
    pairs_of,
    refuse_judges,
    unlike_data,
    unlike_questions,
)
from deltamem_eval.reports.compare.rows import Key, Row, listed, name_of, rows_of
from deltamem_eval.reports.groups import UNJUDGED, judge_of, judges_line, load_groups
from deltamem_eval.reports.regress.baseline import Baseline
from deltamem_eval.reports.regress.breaches import breaches
from deltamem_eval.reports.regress.facts import facts_of
from deltamem_eval.reports.regress.intervals import interval_difference
from deltamem_eval.reports.regress.rules import Rules
from deltamem_eval.reports.regress.samples import with_context_prompts
from deltamem_eval.reports.table import Cell
from deltamem_eval.reports.unfinished import partial_notes

Verdict = Literal["regression", "vanished", "new", "better", "holds", "not gated"]
SIDES = ("the baseline", "the run")
_BETTER = 0.05  # adjusted p below which a gain is told


@dataclass(frozen=True)
class RowVerdict:
    """One row. difference: the run less the baseline, None where one of them lacks the row. breaches: what
    each broken rule found. before, after: accuracy, 0 to 1. cells: what is shown in place of accuracies, for
    a table of ratios.
    """

    key: Key
    verdict: Verdict
    before: float | None
    after: float | None
    difference: Difference | None = None
    breaches: tuple[str, ...] = ()
    cells: tuple[Cell, ...] | None = None

    @property
    def name(self) -> str:
        """The row as people read it."""
        return name_of(self.key) if self.cells is None else ", ".join(self.key)

    @property
    def failed(self) -> bool:
        """Whether it makes the command fail."""
        return self.verdict in ("regression", "vanished")


@dataclass(frozen=True)
class Verdicts:
    """All rows of the baseline that were asked for, then the run's new ones. notes: what was not checked and
    what else a reader must know. seed: of the resampling. ratios: whether it is of a table of ratios. judges:
    a sentence that names the judges of the run's answers, empty where there are none.
    """

    baseline: Path
    by: tuple[str, ...]
    rows: tuple[RowVerdict, ...]
    notes: tuple[str, ...]
    seed: int
    ratios: bool = False
    judges: str = ""

    @property
    def failed(self) -> list[RowVerdict]:
        """The rows that make the command fail."""
        return [row for row in self.rows if row.failed]

    @property
    def summary(self) -> str:
        """The outcome in one line."""
        checked = [row for row in self.rows if row.verdict not in ("vanished", "new", "not gated")]
        counts = {
            kind: sum(row.verdict == kind for row in self.rows) for kind in ("regression", "vanished", "new")
        }
        return (
            f"{counts['regression']} of {len(checked)} rows regressed, {counts['vanished']} vanished, "
            f"{counts['new']} new"
        )


def judge(
    baseline: Baseline, runs: Sequence[Path], rules: Rules, *, subset: bool = False, seed: int = 0
) -> Verdicts:
    """Hold runs, pooled, against a baseline.

    subset: rows and seeds that the run does not hold were not asked for, and are not checked. seed: of the
    resampling. Raises UserError for runs that have not ended (unless subset), and for a baseline of other
    data or questions.
    """
    partial = partial_notes(runs)
    if partial and not subset:
        raise UserError(f"{partial[0].rstrip('.')}: let it end, or gate what is there by --subset")
    groups, cells = load_groups(runs)
    groups = with_context_prompts(groups)
    made = [f"The baseline was made with {'; '.join(baseline.runs)}."] if baseline.runs else []
    notes = [*baseline.notes, *made, *partial]
    if baseline.rows:
        notes += _check_data(baseline, [cell.identity for cell in cells], subset)
    scopes = {scope for group in groups for scope, _ in group.samples}
    held = _Held(baseline, _restricted(baseline.rows, scopes), rows_of(groups, baseline.by), rules, subset)
    verdicts = [*held.compared(seed), *held.new()]
    vanished = [key for key in baseline.keys if key not in held.rows]
    if not subset:
        verdicts += [RowVerdict(key, "vanished", _accuracy(baseline, key), None) for key in vanished]
    elif vanished:
        notes.append(f"Not checked (--subset), the run lacks them: {listed(vanished)}.")
    notes += held.unjudged_notes()
    notes += setting_notes(
        [(held.before[key], held.rows[key]) for key in held.common if key in held.before], SIDES
    )
    judges = judges_line(sample for group in groups for _, sample in group.samples)
    rows = _ordered(verdicts, baseline.keys)
    return Verdicts(baseline.path, baseline.by, rows, tuple(notes), seed, judges=judges)


@dataclass(frozen=True)
class _Held:
    """A run's rows beside a baseline's. before: the baseline's questions, of the run's seeds."""

    baseline: Baseline
    before: Mapping[Key, Row]
    rows: Mapping[Key, Row]
    rules: Rules
    subset: bool

    @property
    def common(self) -> list[Key]:
        """Rows that both sides hold, in the baseline's order."""
        known = self.before if self.baseline.rows else self.baseline.lines
        return [key for key in self.baseline.keys if key in known and key in self.rows]

    def new(self) -> list[RowVerdict]:
        """Rows that only the run holds."""
        known = set(self.common)
        fresh = [row for key, row in self.rows.items() if key not in known]
        return [RowVerdict(row.key, "new", None, facts_of(row)["accuracy"]) for row in fresh]

    def unjudged_notes(self) -> list[str]:
        """One sentence for each line of a table whose row has other answers unjudged than the run's."""
        counts = {
            key: sum(judge_of(sample) == UNJUDGED for _, sample in self.rows[key].members)
            for key in self.common
            if key not in self.before
        }
        return [
            f"{name_of(key)}: {beside(self.baseline.lines[key].unjudged, count, SIDES)} unjudged."
            for key, count in counts.items()
            if self.baseline.lines[key].unjudged != count
        ]

    def compared(self, seed: int) -> list[RowVerdict]:
        """A verdict for every common row. Raises UserError where there is none, or of other questions."""
        if not self.common:
            raise UserError(
                f"{self.baseline.path} and the run have no row in common: it has "
                f"{listed(self.baseline.keys)}; the run has {listed(tuple(self.rows))}"
            )
        gated = [key for key in self.common if self._is_gated(key)]
        paired = {key: self._pairs(key) for key in self.common if key in self.before}
        known = dict(zip(paired, paired_differences(paired, seed), strict=True))
        found = {key: known[key] if key in known else self._unpaired(key, seed) for key in self.common}
        found |= dict(zip(gated, adjusted([found[key] for key in gated]), strict=True))
        return [self._verdict(key, difference) for key, difference in found.items()]

    def _is_gated(self, key: Key) -> bool:
        control = self.rows[key].group.control
        return control is None or control in self.rules.controls

    def _unpaired(self, key: Key, seed: int) -> Difference:
        """The run less a baseline whose questions are not known."""
        self._check_count(key)
        return interval_difference(self.baseline.lines[key], self.rows[key], seed)

    def _pairs(self, key: Key) -> list[Pair]:
        """The questions of a row that both sides answered. Raises UserError where they are not the same."""
        row = self.rows[key]
        pairs = pairs_of(self.before[key], row)
        unlike = unlike_questions(self.before[key], row, pairs, sides=SIDES)
        if unlike:
            raise _unlike(self.baseline.path, name_of(key), unlike)
        refuse_judges(pairs, name_of(key), SIDES, ", and make the baseline anew by --update")
        return pairs

    def _check_count(self, key: Key) -> None:
        """Raises UserError where a table's line has other questions than the run's row, unless subset."""
        asked, answered = self.baseline.lines[key].n, len(self.rows[key].members)
        if asked != answered and not self.subset:
            raise UserError(
                f"{name_of(key)} has {asked} questions in {self.baseline.path} and {answered} in the run: "
                "give the runs it was made of, or --subset for a statistical test alone"
            )

    def _verdict(self, key: Key, difference: Difference) -> RowVerdict:
        row = self.rows[key]
        same = key in self.before  # of a line alone it is not known
        facts = self.baseline.facts(self.before[key]) if same else self.baseline.lines[key].facts
        found = breaches(self.rules.rule, difference, facts, facts_of(row), same_questions=same)
        verdict: Verdict = "holds"
        if not self._is_gated(key):
            verdict, found = "not gated", []
        elif found:
            verdict = "regression"
        elif difference.adjusted < _BETTER and difference.change > 0:
            verdict = "better"
        return RowVerdict(key, verdict, difference.a, difference.b, difference, tuple(found))


def _unlike(path: Path, where: str, fields: Sequence[str], hint: str = "") -> UserError:
    place = f" ({where})" if where else ""
    return UserError(
        f"{path} and the run were not asked the same{place}, differing in {', '.join(fields)}{hint}"
    )


def _check_data(baseline: Baseline, identities: Sequence[Mapping[str, object]], subset: bool) -> list[str]:
    """What --subset leaves out of the seeds. Raises UserError where the two were asked other things."""
    unlike = unlike_data(baseline.identities, identities, SIDES)
    mine = {str(identity["seed"]) for identity in identities}
    missing = sorted({str(identity["seed"]) for identity in baseline.identities} - mine)
    more = mine - {str(identity["seed"]) for identity in baseline.identities}
    notes = []
    if subset and not more and "seed" in unlike:
        del unlike["seed"]
        notes.append(f"Not checked (--subset): seed{'s' * (len(missing) > 1)} {', '.join(missing)}.")
    if unlike:
        hint = ": --subset gates the seeds it has" if set(unlike) == {"seed"} and not more else ""
        raise _unlike(baseline.path, "", list(unlike.values()), hint)
    return notes


def _restricted(rows: Mapping[Key, Row], scopes: set[str]) -> dict[Key, Row]:
    """The rows' questions of those tasks, data and seeds; a row without any is left out."""
    made = {
        key: replace(row, members=[member for member in row.members if member[0] in scopes])
        for key, row in rows.items()
    }
    return {key: row for key, row in made.items() if row.members}


def _accuracy(baseline: Baseline, key: Key) -> float | None:
    line = baseline.lines.get(key)
    return line.facts["accuracy"] if line is not None else facts_of(baseline.rows[key])["accuracy"]


def _ordered(rows: Sequence[RowVerdict], keys: Sequence[Key]) -> tuple[RowVerdict, ...]:
    """Failed rows first, else in the order of the baseline, new ones last."""
    places = {key: place for place, key in enumerate(keys)}
    return tuple(sorted(rows, key=lambda row: (not row.failed, places.get(row.key, len(places)))))
