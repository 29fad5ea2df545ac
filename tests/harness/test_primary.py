"""A plug-in task may call its primary metric what it likes: reports show it, and a score without it fails."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from deltamem_eval.display import Display
from deltamem_eval.interface import Chunk, Episode, Query, Task
from deltamem_eval.registry import TASKS
from deltamem_eval.reports.averages import averages_table
from deltamem_eval.reports.summary import summary_table
from deltamem_eval.session import Request, check, execute
from deltamem_eval.store import Sample, read_cells
from tiny import tiny_backbone


class Overlap(Task):
    """Scores every question as it is told, whatever the answer."""

    name = "overlap"
    summary = "a task of the test's own"
    primary = "f1"
    scores: ClassVar[list[dict[str, float]]] = []

    def episodes(self, seed: int, limit: int | None) -> Iterator[Episode]:
        queries = tuple(Query(f"q{number}", "Where?", ("Oslo",), 4) for number in range(len(self.scores)))
        yield Episode("e", "towns", "accurate-retrieval", (Chunk("In Oslo.", 0),), queries)

    def score(self, query: Query, answer: str) -> dict[str, float]:
        return self.scores[int(query.id[1:])]

    def identity(self) -> dict[str, Any]:
        return {"version": 1}


def samples_of(scores: list[dict[str, float]], folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Sample]:
    """What a run of vanilla stores of so many questions, in their order."""
    real = TASKS.load
    monkeypatch.setattr(TASKS, "load", lambda name: Overlap if name == "overlap" else real(name))
    monkeypatch.setattr(Overlap, "scores", scores)
    backbone = tiny_backbone()
    backbone.model.save_pretrained(folder / "model")
    backbone.tokenizer.save_pretrained(folder / "model")
    model = str(folder / "model")
    request = Request(("vanilla",), model, "overlap", windows=(20,), controls=False, device="cpu")
    with Display(1, quiet=True) as display:
        execute(check(request), folder / "run", display)
    ((_, samples),) = read_cells(folder / "run")
    return sorted(samples, key=lambda sample: sample.query)


def test_reports_show_the_primary_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = [{"f1": 0.75, "exact_match": 0.0}, {"f1": 0.25, "accuracy": 1.0}]
    samples = samples_of(scores, tmp_path, monkeypatch)
    assert [sample.status for sample in samples] == ["ok", "ok"]
    assert samples[0].metrics == {"f1": 0.75, "exact_match": 0.0, "accuracy": 0.75}
    assert samples[1].metrics == {"f1": 0.25, "accuracy": 0.25}
    runs = [tmp_path / "run"]
    for table, key in ((summary_table(runs), "accuracy"), (averages_table(runs), "macro")):
        (row,) = table.rows
        assert row[[column.key for column in table.columns].index(key)].value == 0.5


def test_a_score_without_a_primary_metric_in_its_range_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = [
        {"exact_match": 1.0, "rouge": 0.5},
        {},
        {"f1": 90.0},
        {"f1": -0.5},
        {"f1": float("nan")},
        {"f1": 1.0, "rouge": float("inf")},
        {"f1": 1.0},
    ]
    samples = samples_of(scores, tmp_path, monkeypatch)
    assert [sample.error for sample in samples] == [
        "the task's score lacks its primary metric f1: it has exact_match, rouge",
        "the task's score lacks its primary metric f1: it has none",
        "the task's score is outside 0..1: f1 is 90",
        "the task's score is outside 0..1: f1 is -0.5",
        "the task's score is no number: f1 is nan",
        "the task's score is no number: rouge is inf",
        None,
    ]
    assert [sample.status for sample in samples] == ["failed"] * 6 + ["ok"]
    assert all(sample.metrics == {} for sample in samples[:6])
