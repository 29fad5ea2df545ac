"""Two runs against each other: what may be paired, by-hand differences, refusals, what is printed."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from deltamem_eval.cli.main import entry
from deltamem_eval.errors import UserError
from deltamem_eval.hashing import hash_text
from deltamem_eval.interface import Chunk, Episode, Query
from deltamem_eval.reports.compare.comparison import compare
from deltamem_eval.reports.compare.selection import Choice, choice
from deltamem_eval.reports.compare.tables import comparison_table, flips_table
from deltamem_eval.stats import mcnemar, sign_flip
from deltamem_eval.store import RunStore, Sample

from grids import halves, make_run

LOST, WON = (0, 2, 4, 30), (1,)  # of the even numbers, which are right, and of the odd ones


def changed(method: str, category: str, number: int) -> float:
    """As `halves`, but for five questions of token-write's first category."""
    if method != "token-write" or category != "accurate-retrieval":
        return halves(method, category, number)
    return 0.0 if number in LOST else 1.0 if number in WON else halves(method, category, number)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The command line in this process; gives the exit code."""

    def call(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["deltamem-eval", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            entry()
        return int(ended.value.code or 0)

    return call


def test_a_run_against_itself(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a", changed)
    for seed in range(3):
        found = compare(folder, folder, seed=seed)
        assert len(found.differences) == 4
        for difference in found.differences:
            interval = difference.interval
            assert (interval.estimate, interval.low, interval.high) == (0.0, 0.0, 0.0)
            assert (difference.p.value, difference.adjusted, difference.detectable) == (1.0, 1.0, None)
            assert (difference.won, difference.lost, difference.flips) == (0, 0, [])


def test_a_difference_by_hand(tmp_path: Path) -> None:
    a, b = make_run(tmp_path / "a", halves), make_run(tmp_path / "b", changed)
    found = {difference.key: difference for difference in compare(a, b).differences}
    got = found["token-write", "64", "accurate-retrieval"]
    assert (got.n, got.contexts) == ((36, 36), (12, 12))
    assert (got.a, got.b) == (0.5, 15 / 36)
    assert got.interval.estimate == pytest.approx(-3 / 36)
    # Sums of the contexts that differ: numbers 0, 1, 2 are the first (-1), 4 the second (-1), 30 the last.
    assert got.p == (sign_flip([1.0, 1.0, 1.0], [0.0] * 3, list("abc")), "sign flip")
    assert got.adjusted == got.p.value  # nothing differs in the other rows, which take no share
    assert [pair.a.query.rpartition("/")[2] for pair in got.flips] == ["q0", "q2", "q1", "q0", "q1"]
    assert [pair.change for pair in got.flips] == [-1.0] * 4 + [1.0]
    assert (got.won, got.lost) == (1, 4)
    assert found["vanilla", "64", "accurate-retrieval"].p.value == 1.0


def test_questions_with_contexts_of_their_own_are_tested_by_mcnemar(tmp_path: Path) -> None:
    a, b = (
        make_run(tmp_path / name, score, contexts=36, each=1)
        for name, score in (("a", halves), ("b", changed))
    )
    got = compare(a, b, choices=("token-write@64", None)).differences[0]
    assert got.p == (mcnemar([True] * 4 + [False], [False] * 4 + [True]), "exact McNemar")


def test_the_tables_show_the_numbers_and_the_flips(tmp_path: Path) -> None:
    a, b = make_run(tmp_path / "a", halves), make_run(tmp_path / "b", changed)
    found = compare(a, b)
    table = comparison_table(found)
    keys = [column.key for column in table.columns]
    row = dict(zip(keys, table.rows[0], strict=True))
    assert [row[name].value for name in ("method", "won", "lost", "tied")] == ["token-write", 1, 4, 31]
    assert row["difference"].low is not None
    flips = flips_table(found.differences, found.by, 2)
    assert len(flips.rows) == 2
    assert "5 questions scored otherwise, the first 2 shown." in flips.caption


def _other(field: str, value: Any) -> Callable[[Sample], Sample]:
    """One question of token-write with another value of a field."""

    def change(sample: Sample) -> Sample:
        hit = sample.query == "accurate-retrieval/0/3/q1" and "token-write" in sample.answer
        return sample.model_copy(update={field: value}) if hit else sample

    return change


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"seeds": (1,)}, r"seed \(0 in A, 1 in B\)"),
        ({"data": {"generator": 2}}, r"data.generator \(1 in A, 2 in B\)"),
        ({"prompts": 2}, r"prompts \(1 in A, 2 in B\)"),
        ({"limit": 5}, r"limit \(None in A, 5 in B\)"),
        ({"contexts": 11}, r"questions \(3 of 36 only in A\)"),
        ({"change": _other("target_hash", "x")}, r"token-write.*target_hash \(1 of 36 questions\)"),
        ({"change": _other("cluster", "x")}, r"cluster \(1 of 36 questions\)"),
        ({"change": _other("prompt_hash", "x")}, r"prompt_hash \(1 of 36 questions\)"),
    ],
)
def test_unlike_runs_are_refused_by_the_fields_that_differ(
    tmp_path: Path, other: dict[str, Any], told: str
) -> None:
    a, b = make_run(tmp_path / "a", halves), make_run(tmp_path / "b", halves, **other)
    with pytest.raises(UserError, match=told) as refused:
        compare(a, b)
    assert "--unpaired" in str(refused.value)
    found = compare(a, b, unpaired=True)
    assert not found.paired
    assert all(difference.p.test == "shuffled contexts" for difference in found.differences)
    assert all(difference.flips == [] for difference in found.differences)


def test_another_wording_of_a_question_is_refused_where_it_was_stored(tmp_path: Path) -> None:
    folders = []
    for wording in ("Who?", "Which?"):
        folder = make_run(tmp_path / wording.strip("?"), halves, methods=("vanilla",))
        store = RunStore.open(folder, _request(folder), {})
        query = Query("accurate-retrieval/0/0/q0", wording, ("t0",))
        context = "accurate-retrieval/0/0"
        store.keep_contexts([Episode(context, "s", "accurate-retrieval", (Chunk(context, 0),), (query,))])
        store.close()
        folders.append(folder)
    with pytest.raises(UserError, match=r"question \(1 of 36 questions\)"):
        compare(*folders)
    found = compare(folders[0], folders[0])
    assert found.differences[0].pairs[0].wording == "Who?"
    assert hash_text(context) == found.differences[0].pairs[0].a.cluster


def _request(folder: Path) -> dict[str, Any]:
    request: dict[str, Any] = json.loads((folder / "run.json").read_text())["request"]
    return request


def test_a_failed_question_has_no_prompt_to_disagree(tmp_path: Path) -> None:
    a = make_run(tmp_path / "a", halves)
    b = make_run(tmp_path / "b", halves, change=_other("prompt_hash", ""))
    assert len(compare(a, b).differences) == 4


def test_other_options_explain_other_prompts_and_are_told(tmp_path: Path) -> None:
    a = make_run(tmp_path / "a", halves)
    b = make_run(tmp_path / "b", halves, change=_other("prompt_hash", "x"), options={"words": "plain"})
    found = compare(a, b)
    assert found.paired
    assert any("token-write, vanilla: other options" in note for note in found.notes)


def test_two_methods_are_paired_by_question_though_their_prompts_differ(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "a", changed, windows=(0, 64))
    found = compare(folder, folder, choices=("vanilla", "token-write"))
    assert [difference.key[:2] for difference in found.differences] == [
        ("vanilla → token-write", window) for window in ("0", "0", "64", "64")
    ]
    assert found.differences[0].lost == 4
    across = compare(folder, folder, choices=("vanilla@0", "vanilla@64")).differences
    assert {difference.key[:2] for difference in across} == {("vanilla", "0 → 64")}


def test_runs_of_one_method_each_need_no_choice(tmp_path: Path) -> None:
    a = make_run(tmp_path / "a", changed, methods=("vanilla",))
    b = make_run(tmp_path / "b", changed, methods=("token-write",), windows=(0,))
    assert compare(a, b).differences[0].key[:2] == ("vanilla → token-write", "64 → 0")


@pytest.mark.parametrize(
    ("choices", "told"),
    [
        (("nothing", None), "A has no method 'nothing'.*vanilla@0"),
        (("vanilla@7", "vanilla"), "A has no method 'vanilla' at window 7"),
        (("vanilla@0", "token-write"), "name a window for both"),
    ],
)
def test_choices_that_cannot_be(tmp_path: Path, choices: tuple[str | None, str | None], told: str) -> None:
    folder = make_run(tmp_path / "a", halves, windows=(0, 64))
    with pytest.raises(UserError, match=told):
        compare(folder, folder, choices=choices)


def test_runs_without_a_row_in_common_say_what_there_is(tmp_path: Path) -> None:
    a = make_run(tmp_path / "a", halves)
    b = make_run(tmp_path / "b", halves, windows=(0,))
    with pytest.raises(UserError, match=r"--a NAME.*A has token-write@64, vanilla@64; B has token-write@0"):
        compare(a, b)


def test_a_choice_is_a_label_and_maybe_a_window() -> None:
    assert choice("token-write [wrong-memory]@64") == Choice("token-write [wrong-memory]", "64")
    assert choice("vanilla@all") == Choice("vanilla", "all that fits")
    assert choice("mine@home") == Choice("mine@home", None)


def test_rows_of_one_side_alone_are_told(tmp_path: Path) -> None:
    a, b = make_run(tmp_path / "a", halves), make_run(tmp_path / "b", halves, methods=("vanilla",))
    assert "Only in A, not compared: token-write, window 64." in compare(a, b).notes


def test_a_run_in_progress_is_compared_in_part_and_named(tmp_path: Path) -> None:
    a, b = make_run(tmp_path / "a", halves), make_run(tmp_path / "b", halves, finish=False)
    notes = " ".join(compare(a, b).notes)
    assert "Partial: b lacks 1 cell: token-write at window 64, seed 0." in notes
    seeds = {"seeds": (0, 1), "methods": ("vanilla",)}
    c, d = make_run(tmp_path / "c", halves, **seeds), make_run(tmp_path / "d", halves, finish=False, **seeds)
    with pytest.raises(UserError, match=r"seed \(0, 1 in A, 0 in B\).*Partial: d lacks 1 cell"):
        compare(c, d)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda folder: (folder / "run.json").unlink(), "is .* a run"),
        (lambda folder: [file.unlink() for file in folder.glob("cells/*/cell.json")], "no finished cell"),
        (
            lambda folder: _edit(folder / "run.json", '"schema_version": 1', '"schema_version": 99'),
            "version 99",
        ),
        (
            lambda folder: _edit(
                next(folder.glob("cells/*/cell.json")), '"schema_version": 1', '"schema_version": 99'
            ),
            "version 99",
        ),
        (
            lambda folder: _edit(
                next(folder.glob("cells/*/samples.jsonl")), '"accuracy":1.0', '"accuracy":NaN'
            ),
            "is damaged",
        ),
    ],
)
def test_spoilt_runs_are_one_line_and_exit_code_2(
    tmp_path: Path, run: Callable[..., int], capsys: pytest.CaptureFixture[str], spoil: Any, told: str
) -> None:
    a, b = make_run(tmp_path / "a", halves), make_run(tmp_path / "b", halves)
    spoil(b)
    assert run("compare", a, b, "--out", tmp_path / "out.md") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(told, error)
    assert not (tmp_path / "out.md").exists()


def _edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_json_holds_every_flip_and_markdown_the_first(
    tmp_path: Path, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = make_run(tmp_path / "a", halves), make_run(tmp_path / "b", changed)
    assert run("compare", a, b, "--json", "--flips", 1) == 0
    plain = json.loads(capsys.readouterr().out)
    assert plain["paired"] is True
    assert len(plain["flips"]["rows"]) == 5
    assert len(plain["comparison"]["rows"]) == 4
    assert run("compare", a, b, "--markdown", "--flips", 1) == 0
    text = capsys.readouterr().out
    assert "**B against A**" in text
    assert "the first 1 shown" in text
    assert run("compare", a, b, "--out", tmp_path / "out.md") == 0
    assert "**Flipped questions**" in (tmp_path / "out.md").read_text()
    assert run("compare", a, b) == 0
    assert "Flipped questions" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--out", "."), "is a folder"),
        (("--out", "nowhere/out.md"), "no folder"),
        (("--json", "--markdown"), "give one"),
        (("--flips", "-1"), "negative"),
        (("--by", "colour"), "unknown breakdown 'colour'"),
    ],
)
def test_options_that_cannot_be(
    tmp_path: Path,
    run: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    more: tuple[str, ...],
    told: str,
) -> None:
    folder = make_run(tmp_path / "a", halves)
    monkeypatch.chdir(tmp_path)
    assert run("compare", folder, folder, *more) == 2
    assert told in capsys.readouterr().err
