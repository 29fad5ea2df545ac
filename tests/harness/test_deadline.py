"""A context or a batch that takes too long ends as `timeout`, counted as wrong; the others go on."""

import json
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from deltamem_eval.deadline import MOST_SECONDS, TimeIsUp, limit
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


def test_a_limit_that_no_clock_holds_leaves_the_handler_as_it_was() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(OverflowError), limit(1e10):
        pass
    assert signal.getsignal(signal.SIGALRM) is before
    with limit(MOST_SECONDS):  # and the longest that is taken can be waited for, in either way
        subprocess.run([sys.executable, "-c", ""], capture_output=True, timeout=MOST_SECONDS, check=True)


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


def slow_run(where: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Request:
    """A request of two contexts with two questions each, its method sleeping over some of them."""
    rows = [
        {
            "context": f"fact {number} is {value}.\n",
            "questions": [f"fact {number}?", "which?"],
            "answers": [[value], [value]],
            "metadata": {"source": "factconsolidation_sh_6k", "qa_pair_ids": ["a", "b"]},
        }
        for number, value in enumerate(("7", "9"))
    ]
    (folder / "rows.json").write_text(json.dumps(rows))
    backbone = tiny_backbone()
    backbone.model.save_pretrained(folder / "model")
    backbone.tokenizer.save_pretrained(folder / "model")
    monkeypatch.setattr(Slow, "where", where)
    real = METHODS.load
    monkeypatch.setattr(METHODS, "load", lambda name: Slow if name == "slow" else real(name))
    return Request(
        methods=("slow",),
        model=str(folder / "model"),
        rows=str(folder / "rows.json"),
        windows=(20,),
        controls=False,
        device="cpu",
        batch_size=1,
        timeout=1.5,
    )


def run(request: Request, out: Path) -> None:
    with Display(1, quiet=True) as display:
        execute(check(request), out, display)


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
    run(slow_run(where, tmp_path, monkeypatch), tmp_path / "run")
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


@pytest.mark.parametrize(("more", "told"), [(60.0, "60 s"), (None, "no limit")])
def test_what_was_late_is_asked_again_with_more_time_alone(
    more: float | None, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request, out = slow_run("answer", tmp_path, monkeypatch), tmp_path / "run"
    run(request, out)
    files = [*out.rglob("*.json"), *out.rglob("*.jsonl")]
    before = {file: file.read_bytes() for file in files}
    for seconds in (1.5, 0.5):
        run(replace(request, timeout=seconds), out)
        assert {file: file.read_bytes() for file in files} == before
    ((_, first),) = read_cells(out)
    monkeypatch.setattr(Slow, "where", "nowhere")
    run(replace(request, timeout=more), out)
    ((record, samples),) = read_cells(out)
    assert record.samples == len({sample.query for sample in samples}) == 4
    assert {sample.status for sample in samples} == {"ok"}
    assert samples[:2] == [sample for sample in first if sample.status == "ok"]
    assert record.effective.get("timeout") == more
    assert record.effective["notices"] == [
        f"slow: asked again, with {told}, having run out of time before: 2 questions"
    ]
    (row,) = summary_table([out]).rows
    assert row[-1].value == "0"


@pytest.mark.parametrize("given", [0.0, -3.0, float("nan"), float("inf"), 1e10, MOST_SECONDS + 1.0])
def test_a_timeout_that_is_none_is_refused(given: float) -> None:
    with pytest.raises(UserError, match="--timeout must be a number above 0 and at most 2,000,000 seconds"):
        check(Request(("vanilla",), timeout=given))
