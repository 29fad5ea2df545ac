"""What a judge said of a cell's answers, one line a question, put in the place of their unjudged metrics."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from deltamem_eval.files import read_lines
from pydantic import BaseModel, ConfigDict, FiniteFloat

if TYPE_CHECKING:
    from deltamem_eval.store import Sample


class VerdictRecord(BaseModel):
    """One line of `verdicts.jsonl`: a judge's metrics of one answer, by a version of the rubrics."""

    model_config = ConfigDict(extra="allow")
    query: str
    judge: str
    rubrics: int
    metrics: dict[str, FiniteFloat]


def with_verdicts(samples: list[Sample], file: Path) -> list[Sample]:
    """The samples with the metrics and the judge of the last verdict on each.

    Raises UserError for a damaged line but a torn last one.
    """
    verdicts = {verdict.query: verdict for verdict in read_lines(file, VerdictRecord)}
    for sample in samples:
        verdict = verdicts.get(sample.query)
        if verdict is not None:
            sample.metrics = {**sample.metrics, **verdict.metrics, "unjudged": 0.0}
            sample.with_judge(f"{verdict.judge} (rubrics {verdict.rubrics})")
    return samples
