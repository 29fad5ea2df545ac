"""A CSV of benchmarks as a baseline: ratios are gated, absolute numbers shown, bad files one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from deltamem_eval.cli.main import app
from deltamem_eval.errors import UserError
from deltamem_eval.reports.regress.output import to_annotations, to_comment, to_junit, to_plain
from deltamem_eval.reports.regress.ratios import is_bench, judge_ratios, read_ratios, update_ratios
from deltamem_eval.reports.regress.rules import BENCH_DEFAULTS, Rule, Rules, read_rules
from typer.testing import CliRunner

HEAD = "benchmark,case,metric,median,min,max,unit,ratio,ratio_min,ratio_max,against,target,repeats,machine\n"


def csv(folder: Path, name: str, *lines: tuple[str, float, float | None, float | None]) -> Path:
    """A file of lines (case, median in ms, ratio, target)."""
    file = folder / name
    rows = [
        f"scan,{case},time,{median},1,900,ms,{ratio or ''},{ratio or ''},{ratio or ''},"
        f"{'loop' if ratio else ''},{target or ''},5,a machine\n"
        for case, median, ratio, target in lines
    ]
    file.write_text(HEAD + "".join(rows))
    return file


def judged(tmp_path: Path, ratio: float, median: float = 10, rules: Rules = BENCH_DEFAULTS) -> list[str]:
    before = csv(tmp_path, "a.csv", ("loop", 100, None, None), ("fast", 10, 10.0, 6.0))
    after = csv(tmp_path, "b.csv", ("loop", 300, None, None), ("fast", median, ratio, 6.0))
    found = judge_ratios(before, [after], rules)
    return [f"{row.verdict}: {'; '.join(row.breaches)}" for row in found.rows if row.key[1] == "fast"]


def test_a_ratio_may_fall_by_the_rule_s_share_and_not_below_its_target(tmp_path: Path) -> None:
    assert judged(tmp_path, 7.1) == ["holds: "]
    assert judged(tmp_path, 6.9) == ["regression: ratio 10 → 6.9, more than 30 % worse"]
    assert judged(tmp_path, 12) == ["better: "]
    assert judged(tmp_path, 5)[0].endswith("more than 30 % worse; ratio 5.00, promised 6")


def test_absolute_times_are_shown_and_gated_only_where_asked(tmp_path: Path) -> None:
    assert judged(tmp_path, 10, median=1000) == ["holds: "]
    rules = Rules(rule=[Rule(metric="median", kind="relative", limit=0.5)])
    assert judged(tmp_path, 10, median=19, rules=rules) == ["holds: "]
    assert judged(tmp_path, 10, median=21, rules=rules) == [
        "regression: median 10 → 21, more than 50 % worse"
    ]


def test_a_rate_is_worse_when_it_falls(tmp_path: Path) -> None:
    files = []
    for name, rate in (("a.csv", 100), ("b.csv", 40)):
        files.append(csv(tmp_path, name, ("all", rate, None, None)))
        files[-1].write_text(files[-1].read_text().replace(",ms,", ",questions/s,"))
    rules = Rules(rule=[Rule(metric="median", kind="relative", limit=0.5)])
    assert judge_ratios(files[0], files[1:], rules).failed
    assert not judge_ratios(files[1], files[:1], rules).failed


def test_lines_that_vanished_fail_unless_they_were_not_asked_for(tmp_path: Path) -> None:
    before = csv(tmp_path, "a.csv", ("loop", 100, None, None), ("fast", 10, 10.0, None))
    after = csv(tmp_path, "b.csv", ("loop", 100, None, None), ("faster", 5, 20.0, None))
    found = judge_ratios(before, [after], BENCH_DEFAULTS)
    assert [row.verdict for row in found.rows] == ["vanished", "not gated", "new"]
    assert found.summary == "0 of 0 rows regressed, 1 vanished, 1 new"
    held = judge_ratios(before, [after], BENCH_DEFAULTS, subset=True)
    assert not held.failed
    assert "lacks 1 lines of scan" in held.notes[-1]


def test_every_form_of_the_verdict_names_the_line(tmp_path: Path) -> None:
    before = csv(tmp_path, "a.csv", ("fast: 8 tokens", 10, 10.0, None))
    after = csv(tmp_path, "b.csv", ("fast: 8 tokens", 10, 2.0, None))
    found = judge_ratios(before, [after], BENCH_DEFAULTS)
    assert "scan, fast: 8 tokens, time" in to_annotations(found).replace("%3A", ":").replace("%2C", ",")
    assert "fast: 8 tokens" in to_comment(found)
    assert 'classname="scan" name="fast: 8 tokens, time"' in to_junit(found)
    (row,) = to_plain(found)["rows"]["rows"]
    assert "10 → 2, more than 30 % worse" in json.dumps(row, ensure_ascii=False)


def test_the_command_gates_and_updates(tmp_path: Path) -> None:
    before = csv(tmp_path, "a.csv", ("fast", 10, 10.0, None))
    after = csv(tmp_path, "b.csv", ("fast", 10, 2.0, None))
    run = CliRunner().invoke
    done = run(app, ["regress", str(before), str(after)])
    assert done.exit_code == 1
    assert "regression: 1 of 1 rows regressed" in done.output
    assert run(app, ["regress", str(before), str(before)]).exit_code == 0
    assert run(app, ["regress", str(before), str(after), "--update"]).exit_code == 0
    assert before.read_text() == after.read_text()
    with pytest.raises(UserError, match="would be lost"):
        update_ratios(before, [csv(tmp_path, "c.csv", ("other", 1, None, None))])
    assert "no breakdown" in str(run(app, ["regress", str(before), str(after), "--by", "source"]).exception)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("benchmark,case,metric,median\nscan,a,time,1\n", "lacks min"),
        (HEAD, "an empty one"),
        (HEAD + "scan,a,time,nan,1,1,ms,,,,,,1,m\n", "line 2: median is no number"),
        (HEAD + "scan,a,time,1,1,1,ms,-3,,,,,1,m\n", "line 2: ratio is no number"),
        (HEAD + "scan,a,time,,1,1,ms,,,,,,1,m\n", "line 2: median is no number"),
        (HEAD + "scan,a,time,1,1,1,ms,,,,,,1\n", "line 2: not as many cells"),
        (HEAD + "scan,a,time,1,1,1,ms,,,,,,1,m\nscan,b\n", "line 3: not as many cells"),
        (HEAD + "scan,a,time,1,1,1,ms,,,,,,1,m,more\n", "line 2: not as many cells"),
        (HEAD + 2 * "scan,a,time,1,1,1,ms,,,,,,1,m\n", "line 3: a second line of scan, a, time"),
    ],
)
def test_a_bad_file_is_one_line(text: str, match: str, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(UserError, match=match):
        read_ratios(tmp_path / "bad.csv")


def test_runs_and_rules_of_the_other_kind_are_refused(tmp_path: Path) -> None:
    bench = csv(tmp_path, "a.csv", ("fast", 10, 10.0, None))
    assert is_bench(bench)
    assert not is_bench(tmp_path)
    with pytest.raises(UserError, match="not several"):
        judge_ratios(bench, [bench, bench], BENCH_DEFAULTS)
    with pytest.raises(UserError, match="no line in common"):
        judge_ratios(bench, [csv(tmp_path, "b.csv", ("other", 1, None, None))], BENCH_DEFAULTS)
    with pytest.raises(UserError, match="cannot be read"):
        judge_ratios(bench, [tmp_path], BENCH_DEFAULTS)
    rules = tmp_path / "rules.toml"
    for metric, of_bench, match in (
        ("accuracy", True, "of ratios has no acc"),
        ("ratio", False, "has no ratio"),
    ):
        rules.write_text(f'[[rule]]\nmetric = "{metric}"\nkind = "relative"\nlimit = 0.1\n')
        with pytest.raises(UserError, match=match):
            read_rules(rules, bench=of_bench)
        assert read_rules(rules, bench=not of_bench).rule[0].metric == metric
    rules.write_text('[[rule]]\nmetric = "median"\nkind = "absolute"\nlimit = 0.1\n')
    with pytest.raises(UserError, match="a median is a relative one"):
        read_rules(rules, bench=True)


@pytest.mark.parametrize("metric", ["ratio", "median"])
def test_a_relative_rule_that_no_fall_can_break_is_refused(tmp_path: Path, metric: str) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text(f'[[rule]]\nmetric = "{metric}"\nkind = "relative"\nlimit = 30\n')
    with pytest.raises(UserError, match="a share, not points"):
        read_rules(rules, bench=True)
