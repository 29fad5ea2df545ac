"""What a run shows of itself: a live bar on a terminal, plain lines elsewhere, nothing when quiet."""

import io
from typing import Any

import pytest
from deltamem_eval import display
from deltamem_eval.cells import Cell
from deltamem_eval.display import Display
from deltamem_eval.interface import Episode
from rich.console import Console

CELL = Cell("token-write", "rows", 0, 4096, "wrong-memory")
EPISODE = Episode("rows/0", "source", "category", (), ())
LABEL = "1/2 token-write [wrong-memory], window 4096, seed 0"
NOTICE = "a long notice, " * 12 + "its end"


def shown(terminal: bool, monkeypatch: pytest.MonkeyPatch, quiet: bool = False) -> tuple[str, str]:
    """The bar's words halfway through a cell, and all that was printed of the cell and of a notice."""
    out = io.StringIO()

    def console(**given: Any) -> Console:
        assert given.pop("stderr")
        size = {"force_terminal": terminal, "width": 240 if terminal else 80}
        return Console(file=out, _environ={"TERM": "xterm"}, **size, **given)

    monkeypatch.setattr(display, "Console", console)
    with Display(2, quiet=quiet) as made:
        made.cell(CELL, 12, 0)
        made.writing(CELL, EPISODE, 1500)
        made.wrote(CELL, EPISODE, 1500, 0.5)
        made.answered(CELL, EPISODE, 8)
        (task,) = made._bar.tasks
        words = f"{task.description} {task.completed:g}/{task.total:g}"
        made.answered(CELL, EPISODE, 4)
        made.notice(NOTICE)
    return words, out.getvalue()


def test_on_a_terminal_the_bar_tells_the_cell_its_context_and_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    words, printed = shown(True, monkeypatch)
    assert words == f"{LABEL}: context rows/0, 1,500 tokens at 3,000 tokens/s 8/12"
    assert f"{LABEL}: context rows/0, 1,500 tokens at 3,000 tokens/s" in printed
    assert "12/12" in printed
    assert "12 questions" not in printed


def test_elsewhere_a_cell_is_a_line_however_long_and_a_notice_too(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, *more = shown(False, monkeypatch)[1].splitlines()
    assert first.startswith(f"{LABEL}: 12 questions, ")
    assert first.endswith(" s, written at 3,000 tokens/s")
    assert (second, more) == (f"note: {NOTICE}", [])


@pytest.mark.parametrize("terminal", [False, True])
def test_nothing_is_shown_when_quiet(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(terminal, monkeypatch, quiet=True)[1] == ""
