"""A report of several benchmarks: nothing pools, ranks or draws them together."""

from pathlib import Path

import pytest
from deltamem_eval.errors import UserError
from deltamem_eval.reports.artefacts import Inputs, gather
from deltamem_eval.reports.averages import averages_table
from deltamem_eval.reports.compare.comparison import compare
from deltamem_eval.reports.compare.rows import rows_of
from deltamem_eval.reports.frontier import frontier_table
from deltamem_eval.reports.groups import load_groups
from deltamem_eval.reports.matrix import matrix_table
from deltamem_eval.reports.page.collect import collect, pools
from deltamem_eval.reports.rank import ranks
from deltamem_eval.reports.regress.baseline import read_baseline, update
from deltamem_eval.reports.regress.rules import DEFAULTS
from deltamem_eval.reports.regress.verdicts import judge
from deltamem_eval.reports.summary import summary_table
from deltamem_eval.reports.table import Table

from stored import sample, write_run

LM_EVAL = {"task": "lm-eval", "category": "ifeval"}
TASKS = {
    "locomo": {"task": "locomo", "data": {"sha256": "l"}},
    "lm-eval:ifeval": {"task": "lm-eval", "data": {"task": "ifeval"}},
    "lm-eval:gpqa": {"task": "lm-eval", "data": {"task": "gpqa"}},
}
RIGHT = {"locomo": 2, "lm-eval:ifeval": 8, "lm-eval:gpqa": 4}


def cells(*names: str) -> list:
    """A cell of vanilla and one of token-write for each task."""
    return [
        (
            TASKS[name] | {"method": method},
            [
                sample(number, number < RIGHT[name], prompt_tokens=tokens, extras={"updates": number % 2})
                for number in range(8)
            ],
        )
        for name in names
        for method, tokens in (("vanilla", 10 + RIGHT[name]), ("token-write", 20))
    ]


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """A run for each task, as a suite leaves them."""
    return [write_run(tmp_path / name.replace(":", "-"), cells(name)) for name in TASKS]


def column(table: Table, key: str) -> list[object]:
    place = [column.key for column in table.columns].index(key)
    return [row[place].value for row in table.rows]


def test_every_table_has_a_row_a_task_and_ranks_within_it(runs: list[Path]) -> None:
    tables = [summary_table(runs), averages_table(runs), matrix_table(runs, "source"), frontier_table(runs)]
    for table in tables:
        assert [column.key for column in table.columns][:3] == ["method", "window", "task"]
        assert column(table, "task") == [name for name in sorted(TASKS) for _ in range(2)]
        assert "task" in table.within
        assert column(table, "method")[:2] == ["token-write", "vanilla"]  # nothing told apart by its task
    assert column(tables[1], "macro") == [RIGHT[name] / 8 for name in sorted(TASKS) for _ in range(2)]
    assert ranks(tables[1]) == {}  # both methods are as good on every task
    assert column(tables[3], "pareto_tokens") == [None, "yes"] * 3
    assert "tasks lm-eval:gpqa, lm-eval:ifeval, locomo; window" in tables[0].caption


def test_one_task_has_no_such_column(runs: list[Path]) -> None:
    for table in (summary_table(runs[:1]), averages_table(runs[:1]), matrix_table(runs[:1])):
        assert "task" not in [column.key for column in table.columns]
        assert "task" not in table.within
        assert "tasks" not in table.caption


def test_figures_are_drawn_for_each_task(runs: list[Path]) -> None:
    drawings = [drawing.name for drawing in gather(Inputs(tuple(runs))).drawings]
    wanted = [
        f"{name}-{task.replace(':', '-')}"
        for task in sorted(TASKS)
        for name in ("accuracy", "frontier", "retention")
    ]
    assert drawings == [*wanted, "parameters"]
    (one, *_) = gather(Inputs(tuple(runs[:1]))).drawings
    assert (one.name, one.title) == ("accuracy", "Accuracy and cost")


def test_the_page_pools_no_two_tasks(runs: list[Path]) -> None:
    assert all(len(members) == 1 for _, members in pools(collect(runs)))


def test_rows_of_two_tasks_are_told_apart_or_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", cells("locomo", "lm-eval:ifeval"))
    found = compare(run, run)
    assert found.by == ("task", "category")
    assert len(found.differences) == 4
    with pytest.raises(UserError, match="is a row of tasks lm-eval:ifeval and locomo: break down by task"):
        rows_of(load_groups([run])[0], ("category",))


def test_a_baseline_of_several_tasks_gates_each(tmp_path: Path, runs: list[Path]) -> None:
    table, stored = update(tmp_path / "base.csv", runs)
    assert table.read_text().startswith("method,window,task,category,accuracy,")
    assert '"task":"locomo"' not in stored.read_text().split('"setting":')[1]
    found = judge(read_baseline(table), runs, DEFAULTS)
    assert (found.by, len(found.rows), found.failed) == (("task", "category"), 6, [])
    assert not any("other task" in note for note in found.notes)
