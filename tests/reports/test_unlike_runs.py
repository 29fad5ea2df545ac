"""Runs that were not asked alike stand in rows of their own, each named by what differs."""

from pathlib import Path
from typing import Any

import pytest
from deltamem_eval.reports.compare.comparison import compare
from deltamem_eval.reports.groups import load_groups, setting_of
from deltamem_eval.reports.page.collect import collect, pools
from deltamem_eval.reports.regress.baseline import read_baseline, update
from deltamem_eval.reports.regress.rules import DEFAULTS
from deltamem_eval.reports.regress.verdicts import judge
from deltamem_eval.reports.summary import summary_table

from stored import sample, write_run

MAB = {"sha256": {"Test_Time_Learning": "s"}, "sources": ["icl_"], "prompts": 1, "protocol": "isolated"}
OFFICIAL = {"name": "official", "templates": "3fa0"}


def run(folder: Path, right: int, closed: int = 0, **identity: Any) -> Path:
    """A run of vanilla, closed-book and with its window, right about so many of eight questions."""
    plain = {"task": "memory-agent-bench", "data": MAB, "prompts": 1, **identity}
    cells = [
        (plain | {"control": control, "window": window}, [sample(n, n < count) for n in range(8)])
        for control, window, count in (("closed-book", 0, closed), (None, 8, right))
    ]
    return write_run(folder, cells)


def found(paths: list[Path], key: str) -> dict[object, object]:
    """A column of the rows that are no control."""
    table = summary_table(paths)
    place = [column.key for column in table.columns].index(key)
    return {row[0].value: row[place].value for row in table.rows if not str(row[0].value).endswith("]")}


@pytest.mark.parametrize(
    ("other", "names"),
    [
        ({"protocol": "official"}, ("data.protocol=isolated", "data.protocol=official")),
        ({"prompts": OFFICIAL}, ("data.prompts=1", "data.prompts=official 3fa0")),
        ({"chunk_size": 512}, ("", "data.chunk_size=512")),
        ({"input_limit": 100, "buffer": 3}, ("", "data.input_limit=100, data.buffer=3")),
        ({"counted_by": "characters"}, ("", "data.counted_by=characters")),
        ({"context": "sessions"}, ("", "data.context=sessions")),
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_what_a_task_asks_otherwise_is_told_apart(
    other: dict[str, Any], names: tuple[str, str], seed: int, tmp_path: Path
) -> None:
    runs = [run(tmp_path / "a", 6), run(tmp_path / "b", 4, 3, seed=seed, data=MAB | other)]
    labels = [f"vanilla ({name})" if name else "vanilla" for name in names]
    assert found(runs, "accuracy") == {labels[0]: 6 / 8, labels[1]: 4 / 8}
    assert found(runs, "lift") == {labels[0]: 6 / 8, labels[1]: 1 / 8}
    assert all(len(members) == 1 for _, members in pools(collect(runs)))


@pytest.mark.parametrize(
    "other",
    [{"sha256": {"Test_Time_Learning": "t"}}, {"sources": ["icl_nlu"]}, {"revision": "r", "split": "x"}],
)
def test_other_data_and_seeds_are_pooled_as_before(other: dict[str, Any], tmp_path: Path) -> None:
    runs = [run(tmp_path / "a", 6), run(tmp_path / "b", 4, seed=1, data=MAB | other)]
    assert found(runs, "accuracy") == {"vanilla": 10 / 16}


def test_lifts_are_from_the_same_wording(tmp_path: Path) -> None:
    runs = [run(tmp_path / "a", 6, 1), run(tmp_path / "b", 6, 5, prompts=2)]
    assert found(runs, "lift") == {"vanilla (prompts=1)": 5 / 8, "vanilla (prompts=2)": 1 / 8}
    groups, records = load_groups(runs)
    counts = [sum(setting_of(one.identity) == group.setting for one in records) for group in groups]
    assert counts == [1] * 4


def test_versions_of_a_plug_in_are_told_apart(tmp_path: Path) -> None:
    runs = [run(tmp_path / "a", 6, package="toy 1.0"), run(tmp_path / "b", 4, seed=1, package="toy 1.1")]
    assert found(runs, "accuracy") == {
        "vanilla (package=toy 1.0)": 6 / 8,
        "vanilla (package=toy 1.1)": 4 / 8,
    }
    notes = compare(runs[0], runs[1], unpaired=True).notes
    assert "vanilla [closed-book], vanilla: other package (toy 1.0 in A, toy 1.1 in B)." in notes


def test_two_tasks_ways_of_asking_are_no_difference(tmp_path: Path) -> None:
    locomo = {"sha256": "l", "context": "whole", "prompts": 2}
    runs = [run(tmp_path / "a", 6), run(tmp_path / "b", 4, task="locomo", data=locomo)]
    assert {group.label for group in load_groups(runs)[0]} == {"vanilla", "vanilla [closed-book]"}


def test_cells_of_before_group_as_they_did(tmp_path: Path) -> None:
    cells = [
        ({"seed": seed, "data": {"generator": 1}}, [sample(n, n < right) for n in range(8)])
        for seed, right in ((0, 2), (1, 4))
    ]
    ((group,), _) = load_groups([write_run(tmp_path / "run", cells)])
    assert (group.label, len(group.samples)) == ("vanilla", 16)
    assert set(group.setting) == {
        *("method", "control", "window", "model", "weights", "dtype", "adapter", "options", "parts", "task")
    }


def test_a_baseline_of_unlike_runs_gates_each_row(tmp_path: Path) -> None:
    official = MAB | {"protocol": "official"}
    runs = [run(tmp_path / "a", 6), run(tmp_path / "b", 4, data=official)]
    table, _ = update(tmp_path / "base.csv", runs)
    held = judge(read_baseline(table), runs, DEFAULTS)
    assert (len(held.rows), held.failed) == (4, [])
    assert not [note for note in held.notes if ": other " in note]
