"""Questions that ran out of less time than there is now leave their cell, which then misses them again."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from deltamem_eval import retries
from deltamem_eval.deadline import ran_out_of_less, too_late
from deltamem_eval.retries import reopen
from deltamem_eval.store import CellStore, RunStore

from stored import sample

LATE = {"status": "timeout", "metrics": {}}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[CellStore]:
    """A finished cell: two answers, one out of 1.5 s, one out of 20 s, one that the method itself gave up."""
    with closing(RunStore.open(tmp_path / "run", {}, {})) as store:
        cell = store.cell({"method": "vanilla"})
        cell.append(
            [
                sample(0, True, answer="a\u2028\n\u00e9"),
                sample(1, False, **LATE, error=too_late("a batch of 8 was not answered", 1.5)),
                sample(2, False, **LATE, error=too_late("the context was not written", 20.0)),
                sample(3, False, **LATE, error="the method had enough within reason"),
                sample(4, False, status="failed", error="ValueError: not within 1 s"),
            ]
        )
        cell.finish({})
        yield cell


@pytest.mark.parametrize(
    ("seconds", "gone"), [(1.0, []), (1.5, []), (2.0, [1]), (20.0, [1]), (600.0, [1, 2]), (None, [1, 2])]
)
def test_what_ran_out_of_less_goes(place: CellStore, seconds: float | None, gone: list[int]) -> None:
    before = place.samples()
    assert reopen(place, seconds) == len(gone)
    assert place.samples() == [one for number, one in enumerate(before) if number not in gone]
    assert place.finished is (not gone)
    assert reopen(place, seconds) == 0


def test_a_kill_before_they_are_gone_leaves_them_accounted_for(
    place: CellStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    before = place.samples()
    with monkeypatch.context() as at_the_kill:
        at_the_kill.setattr(retries, "write_atomic", killed)
        with pytest.raises(KeyboardInterrupt):
            reopen(place, 600.0)
    assert not place.finished
    assert place.samples() == before
    assert reopen(place, 600.0) == 2


@pytest.mark.parametrize("seconds", [1e-05, 0.25, 1.0, 60.0, 1234567.0, 2e6])
def test_a_limit_is_known_by_its_error(seconds: float) -> None:
    error = too_late("the context was not written", seconds)
    assert not ran_out_of_less(error, seconds)
    assert not ran_out_of_less(error, seconds / 2)
    assert ran_out_of_less(error, seconds * 2)
    assert ran_out_of_less(error, None)


@pytest.mark.parametrize("error", [None, "", "not done within 1.2.3 s", "not within 1 s of it"])
def test_other_errors_name_no_limit(error: str | None) -> None:
    assert not ran_out_of_less(error, None)
