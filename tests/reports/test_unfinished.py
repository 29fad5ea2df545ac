"""A run that has not ended is reported, and what it lacks is named."""

import shutil
from pathlib import Path

import pytest
from deltamem_eval.errors import UserError
from deltamem_eval.reports.summary import summary_table
from deltamem_eval.reports.unfinished import partial_notes, unfinished_cells

from stored import sample, write_run

REQUEST = {"methods": ["token-write"], "task": "embedded", "windows": [8], "seeds": [0, 1], "controls": False}


def cells(*seeds: int) -> list:
    return [({"method": "token-write", "seed": seed}, [sample(0, True), sample(2, False)]) for seed in seeds]


def test_what_is_missing_is_counted_and_named(tmp_path: Path) -> None:
    half = write_run(tmp_path / "half", cells(0), REQUEST)
    assert [(cell.method, cell.seed) for cell in unfinished_cells(half)] == [("token-write", 1)]
    note = "Partial: half lacks 1 cell: token-write at window 8, seed 1."
    assert partial_notes([half]) == (note,)
    assert note in summary_table([half]).footnotes


def test_a_cell_without_its_end_is_missing(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", cells(0, 1), REQUEST)
    assert partial_notes([run]) == ()
    next((run / "cells").glob("*/cell.json")).unlink()
    assert len(unfinished_cells(run)) == 1


def test_an_empty_run_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", cells(0), REQUEST)
    shutil.rmtree(run / "cells")
    with pytest.raises(UserError, match="no finished cell"):
        summary_table([run])


def test_a_stored_number_that_is_none_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", cells(0))
    file = next((run / "cells").glob("*/samples.jsonl"))
    file.write_text(file.read_text().replace('"accuracy":1.0', '"accuracy":NaN'))
    with pytest.raises(UserError, match="is damaged"):
        summary_table([run])
