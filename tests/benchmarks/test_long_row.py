"""Memory and speed of a short and a long row: what is cut, what is run, what is told."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import long_row
import pytest
from deltamem_eval.errors import UserError
from deltamem_eval.tasks.memory_agent_bench.rows import check_row
from fact_rows import facts_row


def test_rows_are_cut_to_their_first_questions(tmp_path: Path) -> None:
    rows = [facts_row(source, 40, 12) for source in (*long_row.SOURCES, "factconsolidation_mh_6k")]
    rows[0]["metadata"]["chance"] = [n / 100 for n in range(12)]
    rows[0]["metadata"]["keypoints"] = [f"point {n}" for n in range(12)]  # of the row, not of its questions
    file = tmp_path / "rows.json"
    file.write_text(json.dumps(rows))
    short, long = long_row.chosen_rows(file)
    check_row(short, "row")
    assert short["questions"] == rows[0]["questions"][:10]
    assert short["answers"] == rows[0]["answers"][:10]
    assert (len(short["metadata"]["qa_pair_ids"]), short["metadata"]["chance"][-1]) == (10, 0.09)
    assert len(short["metadata"]["keypoints"]) == 12
    assert long["metadata"]["source"] == "factconsolidation_sh_262k"
    file.write_text(json.dumps(rows[:1]))
    with pytest.raises(UserError, match="holds no row of source factconsolidation_sh_262k"):
        long_row.chosen_rows(file)


def test_a_run_that_fails_ends_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        long_row.peak_of(["--method", "vanilla", "--rows", str(tmp_path / "none.json")])
    assert "none.json: no such file" in capfd.readouterr().err


def test_speed_is_tokens_by_the_seconds_of_writing() -> None:
    runs = [long_row.Measured("vanilla", "x", 3 * 2**20, 0.5), long_row.Measured("vanilla", "y", 2**20, 0.0)]
    made = long_row.table(runs, {"x": 100, "y": 7}, "a machine")
    assert [column.key for column in made.columns] == [
        "method",
        "source",
        "context_tokens",
        "peak_rss_mib",
        "write_seconds",
        "tokens_per_second",
        "machine",
    ]
    assert [[cell.value for cell in row] for row in made.rows] == [
        ["vanilla", "x", 100, 3.0, 0.5, 200.0, "a machine"],
        ["vanilla", "y", 7, 1.0, 0.0, None, "a machine"],
    ]


def test_each_method_and_row_is_a_run_of_its_own_on_one_thread(tmp_path: Path) -> None:
    rows, out = tmp_path / "rows.json", tmp_path / "results" / "long_row.csv"
    rows.write_text(json.dumps([facts_row(source, 2000) for source in long_row.SOURCES]))
    one = (  # one method is enough; and what measures must not be larger than what it measures
        "import sys, long_row\n"
        "long_row.METHODS = ('vanilla',)\n"
        "whole = long_row.measure\n"
        "def measured(*given):\n"
        "    yield from whole(*given)\n"
        "    assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
        "long_row.measure = measured\n"
        f"sys.argv = ['long_row.py', {str(rows)!r}, '--out', {str(out)!r}]\n"
        "long_row.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", one],
        capture_output=True,
        text=True,
        cwd=Path(long_row.__file__).parent,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = list(csv.DictReader(out.read_text().splitlines()))
    assert [(line["method"], line["source"]) for line in lines] == [
        ("vanilla", source) for source in long_row.SOURCES
    ]
    for line in lines:
        assert 50 < float(line["peak_rss_mib"]) < 8000
        assert float(line["write_seconds"]) > 0
        assert float(line["context_tokens"]) > 20
        assert "1 threads" in line["machine"]
    assert "| method | source | context tokens |" in done.stdout
