"""A context or a batch that takes too long ends as `timeout`, counted as wrong; the others go on."""

import json
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from deltamem_eval.deadline import TimeIsUp, limit
from deltamem_eval.display import Display
from deltamem_eval.errors import UserError
from deltamem_eval.interface import Answer, Chunk
from deltamem_eval.methods.vanilla import Vanilla
from deltamem_eval.registry import METHODS
from deltamem_eval.reports.summary import summary_table
from deltamem_eval.session import Request, check, execute
from deltamem_eval.store import read_cells
from tiny import tiny_backbone


class Slow(Vanilla):
    """Sleeps over a context that says so, or over a question, and swallows every error it can."""

    name = "slow"
    where = "answer"

    def write(self, chunk: Chunk) -> None:
        if self.where == "write" and "7" in chunk.text:
            self._sleep()
        super().write(chunk)

    def answer(self, queries: Any) -> list[Answer]:
        if self.where == "answer" and any(query.id.endswith("q000") for query in queries):
            self._sleep()
        return super().answer(queries)

    @staticmethod
    def _sleep() -> None:
        try:
            time.sleep(60)
        except Exception:
            time.sleep(60)


def test_the_block_is_cut_and_the_handler_is_as_before() -> None:
    before = signal.getsignal(signal.SIGALRM)
    began = time.monotonic()
    with pytest.raises(TimeIsUp), limit(0.05):
        time.sleep(30)
    assert time.monotonic() - began < 10
    assert signal.getsignal(signal.SIGALRM) is before
    with limit(None), limit(30):
        pass
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_it_is_refused_in_another_thread() -> None:
    found: list[str] = []

    def work() -> None:
        try:
            with limit(1.0):
                pass
        except UserError as error:
            found.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == ["--timeout needs POSIX signals in the main thread: leave it out here"]


@pytest.mark.parametrize(
    ("where", "late", "error"),
    [
        ("answer", {"rows/0/q000", "rows/1/q000"}, "a batch of 1 was not answered within 1.5 s"),
        ("write", {"rows/0/q000", "rows/0/q001"}, "the context was not written within 1.5 s"),
    ],
)
def test_what_is_late_is_noted_and_the_rest_answered(
    where: str, late: set[str], error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        {
            "context": f"fact {number} is {value}.\n",
            "questions": [f"fact {number}?", "which?"],
            "answers": [[value], [value]],
            "metadata": {"source": "factconsolidation_sh_6k", "qa_pair_ids": ["a", "b"]},
        }
        for number, value in enumerate(("7", "9"))
    ]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    backbone = tiny_backbone()
    backbone.model.save_pretrained(tmp_path / "model")
    backbone.tokenizer.save_pretrained(tmp_path / "model")
    monkeypatch.setattr(Slow, "where", where)
    real = METHODS.load
    monkeypatch.setattr(METHODS, "load", lambda name: Slow if name == "slow" else real(name))
    request = Request(
        methods=("slow",),
        model=str(tmp_path / "model"),
        rows=str(tmp_path / "rows.json"),
        windows=(20,),
        controls=False,
        device="cpu",
        batch_size=1,
        timeout=1.5,
    )
    with Display(1, quiet=True) as display:
        execute(check(request), tmp_path / "run", display)
    ((record, samples),) = read_cells(tmp_path / "run")
    assert {sample.query for sample in samples if sample.status == "timeout"} == late
    assert {sample.query for sample in samples if sample.status == "ok"} == {
        f"rows/{row}/q00{number}" for row in (0, 1) for number in (0, 1)
    } - late
    for sample in samples:
        assert sample.error == (error if sample.query in late else None)
        assert bool(sample.metrics) == (sample.query not in late)
    assert record.effective["timeout"] == 1.5
    (row,) = summary_table([tmp_path / "run"]).rows
    assert row[-1].value == "2 timeout"


@pytest.mark.parametrize("given", [0.0, -3.0, float("nan"), float("inf")])
def test_a_timeout_that_is_none_is_refused(given: float) -> None:
    with pytest.raises(UserError, match="--timeout must be a number of seconds above 0"):
        check(Request(("vanilla",), timeout=given))
