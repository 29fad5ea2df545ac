"""The common part of benchmarks: what a row says, and that a wrong result is never given a speed."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import common
import pytest
import sweep_estimate
from common import Absent, Outcome, Row, Wrong, collect, held_against, line, report, rounds, table, to_csv
from deltamem_eval.errors import UserError
from deltamem_eval.overhead import ModelShape
from deltamem_eval.reports.regress.ratios import read_ratios
from deltamem_eval.shapes import find_shape
from kept import Kept

SECONDS = {"slow: 8 tokens": [0.4, 0.2, 0.3], "fast: 8 tokens": [0.1, 0.1, 0.2]}
SLOW, FAST = SECONDS
ALL = Path(common.__file__).with_name("all.py")


def good() -> list[Row]:
    return held_against("good", SECONDS, SLOW, targets={FAST: 2})


def wrong() -> Iterator[Row]:
    yield from held_against("wrong", SECONDS, SLOW)
    raise Wrong("fast: another result")


def absent() -> Iterator[Row]:
    raise Absent("there is no GPU here")
    yield


def test_a_row_is_held_against_another_of_the_same_rounds() -> None:
    base, other = good()
    assert (base.case, base.ratio, base.against, base.target, base.unit) == (SLOW, None, "", None, "ms")
    assert (base.median, base.min, base.max, base.repeats) == pytest.approx((300, 200, 400, 3))
    assert (other.median, other.ratio, other.against, other.target) == pytest.approx((100, 2, SLOW, 2))
    assert (other.ratio_min, other.ratio_max) == pytest.approx((1.5, 4))


def test_rates_count_what_was_done_and_more_of_them_is_faster() -> None:
    base, other = held_against("b", SECONDS, SLOW, metric="speed", unit="questions/s", amount=6)
    assert (base.median, base.min, base.max) == pytest.approx((20, 15, 30))
    assert (other.median, other.ratio) == pytest.approx((60, 2))


def test_work_takes_turns_after_one_round_that_is_not_measured() -> None:
    calls: list[str] = []
    taken = rounds({name: lambda name=name: calls.append(name) for name in "ab"}, 2)
    assert calls == list("ababab")
    assert {name: len(seconds) for name, seconds in taken.items()} == {"a": 2, "b": 2}


def test_a_device_has_a_clock_and_a_warm_up_of_its_own() -> None:
    calls: list[str] = []

    def clock(work: Callable[[], object]) -> float:
        work()
        return float(len(calls))

    work = {name: lambda name=name: calls.append(name) for name in "ab"}
    assert rounds(work, 2, clock=clock, warm_up=2) == {"a": [5, 7], "b": [6, 8]}
    assert calls == list("abababab")


def test_a_row_of_another_machine_says_so() -> None:
    base, other = good()
    rows = [base, replace(other, machine="a GPU")]
    assert table(rows, "a CPU").splitlines()[:2] == ["a CPU", "good: a GPU"]
    assert [text.rpartition(",")[2] for text in to_csv(rows, "a CPU").splitlines()] == [
        "machine",
        "a CPU",
        "a GPU",
    ]
    assert line(other) == (
        f"good, {FAST}: time 100 [100, 200] ms, 2.00x [1.50, 4.00] as fast as slow, promised >= 2x"
    )


def test_kept_rows_are_replaced_and_survive_their_process(tmp_path: Path) -> None:
    file = tmp_path / "out.csv"
    Kept.of(file).put(good())
    kept = Kept.of(file)
    assert to_csv(kept.rows.values(), "") == to_csv(good(), "") == file.read_text()
    kept.put([replace(good()[1], median=7.0)])
    assert [row.median for row in Kept.of(file).rows.values()] == [300, 7]
    file.write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="no CSV of benchmarks"):
        Kept.of(file)


def test_a_wrong_result_gives_no_row_and_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    found = report({"good": good, "wrong": wrong, "absent": absent}, "a machine")
    printed = capsys.readouterr()
    assert found.code == 1
    assert [row.benchmark for row in found.rows] == ["good", "good"]
    assert printed.out.startswith("a machine\n")
    assert "wrong  " not in printed.out
    assert "not measured here: absent: there is no GPU here" in printed.out
    assert "wrong, so no speed is reported: wrong: fast: another result" in printed.err
    assert report({"wrong": wrong}, "a machine").rows == []
    assert capsys.readouterr().out == ""


def test_a_ratio_below_its_target_is_exit_code_1() -> None:
    assert collect({"good": good, "absent": absent}, io.StringIO()).code == 0
    slow = Outcome(held_against("b", SECONDS, SLOW, targets={FAST: 3.5}), [], [])
    assert slow.missed == ["b, fast: 8 tokens, time: 2.000x, promised 3.5x"]
    assert slow.code == 1


def test_the_table_and_the_csv_say_the_same(tmp_path: Path) -> None:
    made = table(good(), "a machine")
    assert "2.00x [1.50, 4.00]" in made
    assert ">= 2x" in made
    (tmp_path / "bench.csv").write_text(to_csv(good(), "a machine, with a comma"))
    lines = read_ratios(tmp_path / "bench.csv")
    assert [key[1] for key in lines] == list(SECONDS)
    other = lines["good", FAST, "time"]
    assert other.numbers["ratio"] == pytest.approx(2)
    assert other.numbers["target"] == 2
    assert (other.machine, other.against) == ("a machine, with a comma", SLOW)


def test_a_wrong_kernel_prints_no_speed_and_writes_no_csv(tmp_path: Path) -> None:
    """The scan's benchmark, its chunked form spoilt by one part in a thousand."""
    spoilt = (
        "import scan, sys; right = scan.scan\n"
        "def scanned(**given):\n"
        "    reads, end = right(**given)\n"
        "    return (reads * (1.001 if given.get('form') == 'chunked' else 1), end)\n"
        f"scan.scan = scanned; sys.argv = ['all.py', 'scan', '--out', {str(tmp_path / 'out.csv')!r}]\n"
        "scan.SIZES = [(33, 1)]\n"
        "import all; all.main()\n"
    )
    command = [sys.executable, "-c", spoilt]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ALL.parent, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert "no speed is reported: scan: chunked, forward, 33 tokens, 1 heads" in done.stderr
    assert not (tmp_path / "out.csv").exists()


def test_every_benchmark_listed_has_rows() -> None:
    import all as every

    assert set(every.chosen([])) == set(every.BENCHMARKS)
    with pytest.raises(SystemExit, match="no benchmark 'scam'"):
        every.chosen(["scam"])


def shape() -> ModelShape:
    return find_shape(sweep_estimate.MODEL)[1]


def test_operations_are_those_of_the_dry_run_and_attention() -> None:
    made = shape()
    pairs = sum(50 + token + 0.5 for token in range(20))  # each token to all before it, and half to itself
    wanted = 2 * made.parameters * 20 + 4 * made.q_out * made.layers * pairs
    assert sweep_estimate.operations(made, 20, 50) == pytest.approx(wanted)
    whole = sweep_estimate.operations(made, 20) + sweep_estimate.operations(made, 30, 20)
    assert whole == pytest.approx(sweep_estimate.operations(made, 50))


def test_a_schedule_is_never_below_the_longest_shard_or_the_even_share() -> None:
    assert sweep_estimate.makespan([5, 4, 3, 3, 3], 2) == 10
    assert sweep_estimate.makespan([5, 1, 1], 8) == 5
    assert sweep_estimate.makespan([1, 2, 3], 1) == 6


def test_a_case_with_threads_of_its_own_has_them_in_its_machine_line() -> None:
    rows = [
        Row("scan", f"chunked: 8 tokens{more}", "time", 1.0, 1.0, 1.0, "ms") for more in ("", ", 2 threads")
    ]
    lines = to_csv(rows, "CPU (2 cores), 1 threads, Linux").splitlines()
    assert lines[1].endswith('"CPU (2 cores), 1 threads, Linux"')
    assert lines[2].endswith('"CPU (2 cores), 2 threads, Linux"')
