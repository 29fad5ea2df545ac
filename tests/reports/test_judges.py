"""Judged and unjudged answers are not compared without a word, and a judged run counts before its twin."""

import json
import shutil
from pathlib import Path

import pytest
from deltamem_eval.errors import UserError
from deltamem_eval.reports.averages import averages_table
from deltamem_eval.reports.compare.comparison import compare
from deltamem_eval.reports.compare.tables import comparison_table
from deltamem_eval.reports.groups import judge_of, load_groups
from deltamem_eval.reports.matrix import matrix_table
from deltamem_eval.reports.regress.baseline import read_baseline, update
from deltamem_eval.reports.regress.rules import DEFAULTS
from deltamem_eval.reports.regress.tables import verdict_table
from deltamem_eval.reports.regress.verdicts import judge
from deltamem_eval.reports.summary import summary_table
from deltamem_eval.store import read_cells

from stored import sample, write_run

SOURCE = {"source": "longmemeval_s*"}


def run(folder: Path, *methods: str) -> Path:
    """A run of answers that only a judge can score."""
    metrics = {"accuracy": 0.0, "unjudged": 1.0}
    samples = [sample(number, False, metrics=metrics, **SOURCE) for number in range(8)]
    return write_run(folder, [({"method": method}, samples) for method in methods or ("vanilla",)])


def judged(
    source: Path, target: Path, name: str = "gpt", cells: int | None = None, right: float = 1.0
) -> Path:
    """A copy of a run, some of its cells with verdicts."""
    shutil.copytree(source, target)
    for cell in sorted(target.glob("cells/*"))[:cells]:
        lines = [
            {"query": f"e{n // 2}/q{n}", "judge": name, "rubrics": 1, "metrics": {"accuracy": 1.0}}
            for n in range(8)
        ]
        (cell / "verdicts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return target


def test_averages_and_matrix_name_what_is_unjudged(tmp_path: Path) -> None:
    plain = run(tmp_path / "plain")
    (row,) = averages_table([plain]).rows
    note = "Token metrics, unjudged: longmemeval_s*."
    assert (row[2].note, row[3].note) == (note, note)
    assert note in matrix_table([plain]).footnotes
    done = judged(plain, tmp_path / "done")
    assert averages_table([done]).rows[0][2].note is None
    assert note not in matrix_table([done]).footnotes
    assert "Judged by gpt (rubrics 1)." in averages_table([done]).caption


@pytest.mark.parametrize("order", [1, -1])
def test_of_twins_the_judged_one_counts_in_either_order(tmp_path: Path, order: int) -> None:
    plain = run(tmp_path / "plain")
    done = judged(plain, tmp_path / "done")
    ((group,), _) = load_groups([plain, done][::order])
    assert {judge_of(one) for _, one in group.samples} == {"gpt (rubrics 1)"}
    assert group.runs[0].startswith("done/")
    other = judged(plain, tmp_path / "other", "llama")
    with pytest.raises(UserError, match=r"judged by llama \(rubrics 1\), a run before it by gpt"):
        load_groups([done, plain, other])


def test_twins_may_hold_their_answers_in_another_order(tmp_path: Path) -> None:
    plain = run(tmp_path / "plain")
    twins = [judged(plain, tmp_path / name) for name in ("one", "two")]
    for twin in twins:
        (cell,) = twin.glob("cells/*")
        lines = [json.loads(line) for line in (cell / "verdicts.jsonl").read_text().splitlines()]
        for line in lines[:3]:  # as by a judge that was changed on the way
            line["judge"] = "llama"
        (cell / "verdicts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    file = cell / "samples.jsonl"  # workers store answers as they come
    file.write_text("".join(reversed(file.read_text().splitlines(keepends=True))))
    ((group,), _) = load_groups([plain, *twins])
    assert group.runs[0].startswith("one/")
    assert [judge_of(one) for _, one in group.samples] == ["llama (rubrics 1)"] * 3 + ["gpt (rubrics 1)"] * 5
    file.write_text(file.read_text().replace('"answer":""', '"answer":"x"', 1))
    with pytest.raises(UserError, match=r"two answered cell .* unlike a run before it"):
        load_groups([plain, *twins])


def test_compare_refuses_what_was_not_judged_alike(tmp_path: Path) -> None:
    plain = run(tmp_path / "plain")
    done, other = judged(plain, tmp_path / "done"), judged(plain, tmp_path / "other", "llama")
    with pytest.raises(UserError, match=r"not judged alike: unjudged in A, gpt \(rubrics 1\) in B \(8 quest"):
        compare(plain, done)
    with pytest.raises(UserError, match=r"gpt \(rubrics 1\) in A, llama \(rubrics 1\) in B"):
        compare(done, other)
    found = compare(plain, done, unpaired=True)
    assert any("not judged alike (unjudged in A, gpt (rubrics 1) in B)" in note for note in found.notes)
    assert comparison_table(compare(done, done)).caption.endswith("Judged by gpt (rubrics 1).")


def test_a_baseline_knows_its_judge(tmp_path: Path) -> None:
    plain = run(tmp_path / "plain")
    done, other = judged(plain, tmp_path / "done"), judged(plain, tmp_path / "other", "llama")
    table, stored = update(tmp_path / "base.csv", [done])
    same = judge(read_baseline(table), [done], DEFAULTS)
    assert same.failed == []
    assert verdict_table(same).caption.endswith("Judged by gpt (rubrics 1).")
    for run_ in (plain, other):
        with pytest.raises(UserError, match=r"not judged alike: gpt \(rubrics 1\) in the baseline"):
            judge(read_baseline(table), [run_], DEFAULTS)
    stored.unlink()
    notes = judge(read_baseline(table), [plain], DEFAULTS).notes
    assert any("0 in the baseline, 8 in the run unjudged." in note for note in notes)


def test_a_difference_from_vanilla_is_a_dash_where_one_was_judged(tmp_path: Path) -> None:
    half = judged(run(tmp_path / "plain", "vanilla", "bm25-rag"), tmp_path / "half", cells=1)
    table = summary_table([half])
    keys = [column.key for column in table.columns]
    rows = {row[0].value: dict(zip(keys, row, strict=True)) for row in table.rows}
    assert rows["bm25-rag"]["over_vanilla"].value is None
    assert rows["bm25-rag"]["over_vanilla"].note.startswith("Not judged alike: ")
    assert rows["bm25-rag"]["p_vanilla"].value is None


def test_a_damaged_verdict_is_one_line_and_a_torn_one_is_passed_over(tmp_path: Path) -> None:
    done = judged(run(tmp_path / "plain"), tmp_path / "done")
    (file,) = done.glob("cells/*/verdicts.jsonl")
    whole = file.read_text()
    file.write_bytes((whole + '{"query": "é').encode()[:-1])
    ((_, samples),) = read_cells(done)
    assert [one.judge for one in samples] == ["gpt (rubrics 1)"] * 8
    assert "gpt" not in samples[0].model_dump_json()
    for line in ('{"query": 1\n', '{"query": "q", "judge": "j", "rubrics": 1}\n', "[]\n"):
        file.write_text(whole + line)
        with pytest.raises(UserError, match=r"verdicts\.jsonl is damaged"):
            read_cells(done)
