"""Documents and scores of any file in MemoryAgentBench's row schema for lm-eval: what dme_rows.yaml names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import Dataset
    from deltamem_eval.tasks.memory_agent_bench.task import RowsTask

SPLIT = "test"
BUDGET = 50  # tokens of an answer, as the YAML file has it
_METRICS = ("accuracy", "exact_match", "f1", "substring_exact_match")


def documents(rows: str = "", rows_limit: int | None = None, **_: Any) -> dict[str, Dataset]:
    """One document a question, in the order of the file.

    Settings, by `--metadata '{"rows": "FILE", "rows_limit": 2}'`: the file, and how many of its rows a
    category; other arguments are the model's and change nothing. A document is as those of the embedded task,
    and names its file. Raises UserError for no file, one that cannot be read, and for rows whose answers are
    longer than this task allows.
    """
    from datasets import Dataset

    records = []
    for episode in _task(rows).episodes(0, rows_limit):
        _check(episode.source)
        for query in episode.queries:
            records.append(
                {
                    "id": query.id,
                    "context": episode.context,
                    "question": query.prompt,
                    "targets": list(query.targets),
                    "source": episode.source,
                    "rows": rows,
                }
            )
    return {SPLIT: Dataset.from_list(records)}


def scores(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """The source's own metric as `accuracy`, exact match, F1 and substring match, as `--rows` has them."""
    from deltamem_eval.interface import Query

    query = Query(doc["id"], doc["question"], tuple(doc["targets"]), metadata={"source": doc["source"]})
    found = _task(str(doc["rows"])).score(query, results[0])
    return {name: found[name] for name in _METRICS}


@cache
def _task(rows: str) -> RowsTask:
    from deltamem_eval.errors import UserError
    from deltamem_eval.tasks.memory_agent_bench.task import RowsTask

    if not rows:
        raise UserError("""dme_rows needs a file of rows: give --metadata '{"rows": "FILE"}'""")
    return RowsTask(rows)


def _check(name: str) -> None:
    """Raises UserError for a source of long answers: lm-eval has one budget and one stop for a whole task."""
    from deltamem_eval.errors import UserError
    from deltamem_eval.tasks.memory_agent_bench.sources import source_of

    source = source_of(name)
    if not source.short or source.new_tokens > BUDGET:
        raise UserError(
            f"dme_rows has answers of one line and {BUDGET} tokens, too few for {name}: "
            "deltamem-eval run --rows FILE gives each source its own"
        )
