"""MemoryAgentBench's in-context-learning sources, rebuilt from raw data, answered without a language model.

    python benchmarks/sources.py FOLDER [--out FOLDER]

FOLDER holds the raw files that `deltamem-eval data sources` names: Banking77's in banking77/, those of NLU
(HWU64's split) in nlu_eval/hwu64/ or hwu64/, and TREC's in trec/; CLINC150 is left out. Two tables: how often
the label shown most often, and the nearest example's, is right; and where answers leak.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from common import publish
from deltamem_eval.display import Display
from deltamem_eval.errors import UserError
from deltamem_eval.reports.summary import summary_table
from deltamem_eval.reports.table import Cell, Column, Table
from deltamem_eval.session import Request, check, execute
from deltamem_eval.tasks.builders import corpora, icl
from deltamem_eval.tasks.builders.common import Count, Settings
from deltamem_eval.tasks.builders.corpora import Corpus
from deltamem_eval.tasks.builders.describe import describe, parse_labelled
from deltamem_eval.tasks.builders.tokens import counter
from deltamem_eval.tasks.memory_agent_bench.rows import Row

METHODS = ("majority-label", "nearest-example")
# Tokens of a context, of which the embedded tokenizer takes about twice as many as the benchmark's: the first
# budget holds about as many shots as the benchmark has, the second as many as its 103,000 tokens hold here.
BUDGETS = {
    "banking77": (205_000, 103_000),
    "nlu": (193_000, 103_000),
    "trec_coarse": (221_000, 103_000),
    "trec_fine": (216_000, 103_000),
}
RESAMPLES, QUESTIONS = 5, 100

_OF = (Column("source", "source"), Column("budget", "budget, tokens", "count"))
ACCURACY = (
    *_OF,
    Column("shots", "shots", "count"),
    Column("labels", "labels", "count"),
    Column("shots_per_label", "shots a label", "count"),
    Column("contexts", "contexts", "count"),
    Column("method", "method"),
    Column("accuracy", "accuracy % [95 %]", "percent", True),
)
LEAKAGE = (
    *_OF,
    Column("context_tokens_min", "context tokens, least", "count"),
    Column("context_tokens_max", "most", "count"),
    Column("shots_repeated", "shots repeated, at most", "count"),
    Column("questions", "questions", "count"),
    Column("questions_in_context", "stand in their context", "count", False),
    Column("duplicated_questions", "twice in a row", "count", False),
    Column("answers_in_question", "hold their answer", "count", False),
    Column("left_out_in_training", "left out: in the training set", "count"),
    Column("left_out_repeated", "repeated", "count"),
    Column("left_out_unlabelled", "of a label without shots", "count"),
)


@dataclass(frozen=True)
class Raw:
    """A source as it lies: folders that may hold its files, the first that is there being read."""

    title: str
    stem: str
    read: Callable[[Sequence[Path]], Corpus]
    places: tuple[str, ...]

    def corpus(self, folder: Path) -> Corpus:
        """Its utterances. Raises UserError where they are not in `folder`."""
        for place in self.places:
            if (folder / place).is_dir():
                return self.read([folder / place])
        raise UserError(f"{folder} holds no {' or '.join(self.places)}: the raw files of {self.title}")


RAW = (
    Raw("Banking77", "banking77", corpora.banking77, ("banking77",)),
    Raw("NLU", "nlu", corpora.nlu, ("nlu_eval/hwu64", "hwu64")),
    Raw("TREC coarse", "trec_coarse", corpora.trec_coarse, ("trec",)),
    Raw("TREC fine", "trec_fine", corpora.trec_fine, ("trec",)),
)


@dataclass(frozen=True)
class Made:
    """The rows of a source within one budget, and what may not be asked of its raw data."""

    title: str
    budget: int
    rows: list[Row]
    held_out: icl.HeldOut

    @property
    def source(self) -> str:
        """The source's name in the rows, which says how many shots they have."""
        return str(self.rows[0]["metadata"]["source"])


def build(folder: Path, count: Count) -> Iterator[Made]:
    """Every source within every budget. Raises UserError where raw files are missing or damaged."""
    found = [(raw, raw.corpus(folder)) for raw in RAW]
    for raw, corpus in found:
        for budget in BUDGETS[raw.stem]:
            settings = Settings(budget, QUESTIONS, count, resamples=RESAMPLES)
            yield Made(raw.title, budget, icl.build(raw.stem, corpus, settings).rows, icl.held_out(corpus))


def answered(made: Sequence[Made], scratch: Path) -> dict[tuple[str, str], Cell]:
    """Accuracy by the source's name in the rows and the method; `scratch` is a folder for the run."""
    file = scratch / "rows.json"
    file.write_text(json.dumps([row for one in made for row in one.rows]), encoding="utf-8")
    request = Request(methods=METHODS, rows=str(file), windows=(0,), controls=False, device="cpu")
    with Display(len(METHODS), quiet=True) as display:
        execute(check(request), scratch / "run", display)
    table = summary_table([scratch / "run"], ("source",))
    keys = [column.key for column in table.columns]
    source, method, accuracy = (keys.index(key) for key in ("source", "method", "accuracy"))
    return {(str(row[source].value), str(row[method].value)): row[accuracy] for row in table.rows}


def accuracy_table(made: Sequence[Made], accuracy: dict[tuple[str, str], Cell]) -> Table:
    """A row for every source, budget and method."""
    rows = []
    for one in made:
        shots = parse_labelled(one.rows[0]["context"]).shots
        total, labels = sum(shots.values()), len(shots)
        counts = (total, labels, round(total / labels, 1), len(one.rows))
        for method in METHODS:
            found = accuracy[one.source, method]
            cell = Cell(found.value, found.low, found.high, found.n)
            rows.append((*_of(one), *map(Cell, counts), Cell(method), cell))
    caption = f"{QUESTIONS} questions a context; intervals: cluster bootstrap by context."
    return Table("In-context learning without a language model", ACCURACY, tuple(rows), caption)


def leakage_table(made: Sequence[Made], count: Count) -> Table:
    """What `data describe` finds in the rows, and what the builder left out of the questions."""
    rows = []
    for one in made:
        (found,) = describe(one.rows, count).values()
        left = one.held_out
        counts = (
            *(found["context_tokens"][end] for end in ("min", "max")),
            max(row["metadata"]["shots_repeated"] for row in one.rows),
            found["questions"],
            found["icl"]["questions_in_context"],
            found["duplicated_questions"],
            found["answers_in_question"],
            left.in_training,
            left.repeated,
            left.unlabelled,
        )
        rows.append((*_of(one), *map(Cell, counts)))
    caption = "Left out: held-out utterances that the builder does not ask about, and why."
    return Table("Where answers leak", LEAKAGE, tuple(rows), caption)


def _of(made: Made) -> tuple[Cell, Cell]:
    return Cell(made.title), Cell(made.budget)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("raw", type=Path, help="folder of the raw files")
    parser.add_argument("--out", type=Path, help="folder to write each table to as CSV")
    arguments = parser.parse_args()
    count = counter()
    try:
        made = list(build(arguments.raw, count))
    except UserError as error:
        parser.error(str(error))
    with tempfile.TemporaryDirectory() as scratch:
        accuracy = accuracy_table(made, answered(made, Path(scratch)))
    for name, table in (("icl_sources", accuracy), ("icl_leakage", leakage_table(made, count))):
        publish(table, arguments.out and arguments.out / f"{name}.csv")


if __name__ == "__main__":
    main()
