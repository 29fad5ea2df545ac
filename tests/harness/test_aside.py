"""Calls made by a thread, in their order."""

import threading
from pathlib import Path

import pytest
from deltamem_eval import runner
from deltamem_eval.aside import LEAD, Aside
from deltamem_eval.display import Display
from deltamem_eval.executors.local import LocalExecutor
from deltamem_eval.session import Request, check

from stored import stored_samples


@pytest.mark.parametrize("thread", [False, True])
def test_all_calls_are_made_in_order(thread: bool) -> None:
    made: list[int] = []
    here: set[bool] = set()

    def call(number: int) -> None:
        made.append(number)
        here.add(threading.current_thread() is threading.main_thread())

    with Aside(thread) as aside:
        for number in range(3 * LEAD):
            aside.do(call, number)
    assert made == list(range(3 * LEAD))
    assert here == {not thread}


def test_no_more_than_the_lead_are_waiting() -> None:
    gate, made = threading.Event(), []

    def call(number: int) -> None:
        gate.wait(10)
        made.append(number)

    with Aside(thread=True) as aside:
        for number in range(LEAD):
            aside.do(call, number)
        assert made == []
        gate.set()
        for number in range(LEAD, 3 * LEAD):
            aside.do(call, number)
            assert number - len(made) <= LEAD


@pytest.mark.parametrize("thread", [False, True])
def test_an_error_stops_the_calls_and_comes_out(thread: bool) -> None:
    made: list[int] = []

    def call(number: int) -> None:
        if number == 2:
            raise OSError("disk full")
        made.append(number)

    def work() -> None:
        with Aside(thread) as aside:
            for number in range(6):
                aside.do(call, number)

    with pytest.raises(OSError, match="disk full"):
        work()
    assert made == [0, 1]


def test_the_work_s_own_error_is_the_one_that_is_told() -> None:
    gate = threading.Event()

    def call() -> None:
        gate.wait(10)
        raise OSError("disk full")

    def work() -> None:
        with Aside(thread=True) as aside:
            aside.do(call)
            gate.set()
            raise ValueError("the work")

    with pytest.raises(ValueError, match="the work"):
        work()


def test_scoring_aside_changes_no_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = check(Request(methods=("token-write", "bm25-rag"), windows=(64,), limit=3, device="cpu"))
    found = []
    for thread in (False, True):
        monkeypatch.setattr(runner, "beside_device", lambda _, thread=thread: thread)
        out = tmp_path / str(thread)
        with LocalExecutor() as executor, Display(6, quiet=True) as display:
            executor.execute(request, out, display)
        found.append(stored_samples(out))
    assert found[0] == found[1]
    assert found[0]
