"""What a short and a long row cost: peak resident memory of the whole process, and tokens written a second.

    python benchmarks/long_row.py Conflict_Resolution-00000-of-00001.parquet [--out FILE.csv]

The single-hop rows of 6k and 262k facts, ten questions each, at a window of 256 tokens through the embedded
model. Every method and row is a `deltamem-eval run` of its own, on one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from common import one_thread
from deltamem_eval.errors import UserError
from deltamem_eval.reports.render import to_csv, to_markdown
from deltamem_eval.reports.table import Cell, Column, Table
from deltamem_eval.store import read_cells
from deltamem_eval.tasks.memory_agent_bench.metadata import PER_QUESTION
from deltamem_eval.tasks.memory_agent_bench.rows import Row, load_rows

METHODS = ("vanilla", "bm25-rag", "token-write")
SOURCES = ("factconsolidation_sh_6k", "factconsolidation_sh_262k")
QUESTIONS, WINDOW = 10, 256
COLUMNS = (
    Column("method", "method"),
    Column("source", "source"),
    Column("context_tokens", "context tokens", "count"),
    Column("peak_rss_mib", "peak memory, MiB", "count", False),
    Column("write_seconds", "write s", "seconds", False),
    Column("tokens_per_second", "tokens written per s", "count", True),
    Column("machine", "machine"),
)


@dataclass(frozen=True)
class Measured:
    """One run. peak: resident memory of its process at most, bytes; seconds: of writing the context."""

    method: str
    source: str
    peak: int
    seconds: float


def chosen_rows(file: Path) -> list[Row]:
    """A file's rows of SOURCES, with their first questions alone.

    Raises UserError for a file that is none of rows, and for one that lacks a source.
    """
    found = {str(row["metadata"]["source"]): row for row in load_rows(file)}
    missing = [source for source in SOURCES if source not in found]
    if missing:
        raise UserError(f"{file} holds no row of source {missing[0]}")
    return [cut(found[source], QUESTIONS) for source in SOURCES]


def cut(row: Row, questions: int) -> Row:
    """A row with that many of its questions at most, the first ones."""
    own = ("qa_pair_ids", *PER_QUESTION)
    metadata = {
        name: value[:questions] if name in own and isinstance(value, list) else value
        for name, value in row["metadata"].items()
    }
    lists = {name: row[name][:questions] for name in ("questions", "answers")}
    return {**row, **lists, "metadata": metadata}


def measure(rows: Sequence[Row], folder: Path) -> Iterator[Measured]:
    """Every method on every row, each in a process of its own, one after the other.

    What a process counts as its peak begins with the memory of the one it was forked from; hence this one
    loads neither torch nor a tokenizer before all are measured.
    """
    for number, row in enumerate(rows):
        file = folder / f"row-{number}.json"
        file.write_text(json.dumps([row]), encoding="utf-8")
        for method in METHODS:
            out = folder / f"{method}-{number}"
            peak = peak_of(
                ["--rows", str(file), "--method", method, "--window", str(WINDOW), "--out", str(out)]
            )
            ((_, samples),) = read_cells(out)
            yield Measured(method, str(row["metadata"]["source"]), peak, samples[0].write_seconds)


def peak_of(arguments: Sequence[str]) -> int:
    """Most resident memory, in bytes, of a run without controls. Raises SystemExit where it fails."""
    command = [sys.executable, "-m", "deltamem_eval.cli.main", "run", "--no-controls", "--quiet", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(process.returncode)
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def table(measured: Sequence[Measured], tokens: Mapping[str, int], machine: str) -> Table:
    """The runs as a table. tokens: of each source's context."""
    rows = [
        (
            Cell(run.method),
            Cell(run.source),
            Cell(tokens[run.source]),
            Cell(round(run.peak / 2**20, 1)),
            Cell(round(run.seconds, 3)),
            Cell(round(tokens[run.source] / run.seconds, 1) if run.seconds else None),
            Cell(machine),
        )
        for run in measured
    ]
    caption = (
        f"{QUESTIONS} questions a row at most; window {WINDOW} tokens; tokens by the embedded tokenizer."
    )
    return Table("Memory and speed by length of context", COLUMNS, tuple(rows), caption, (machine,))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("rows", type=Path, help="the benchmark's Conflict_Resolution file")
    parser.add_argument("--out", type=Path, help="write the table there as CSV")
    arguments = parser.parse_args()
    try:
        rows = chosen_rows(arguments.rows)
    except UserError as error:
        parser.error(str(error))
    with tempfile.TemporaryDirectory() as scratch:
        measured = list(measure(rows, Path(scratch)))
    from deltamem_eval.tasks.builders.tokens import counter

    count = counter()
    tokens = {str(row["metadata"]["source"]): count(row["context"]) for row in rows}
    made = table(measured, tokens, one_thread())
    shown = replace(made, columns=made.columns[:-1], rows=tuple(row[:-1] for row in made.rows))
    print(to_markdown(shown))
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(to_csv(made), encoding="utf-8")


if __name__ == "__main__":
    main()
