"""Counting a run before it starts, and suites of tasks, through the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from deltamem_eval.estimate import Meter, estimate
from deltamem_eval.session import Request, check
from deltamem_eval.suites import SUITES, Part, options_of

ENV = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def cli(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deltamem_eval.cli.main", "run", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=ENV, cwd=cwd, check=False)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    row = {
        "context": "one two three\n" * 40,
        "questions": ["which ?", "and the next one ?"],
        "answers": [["x"], ["y"]],
        "metadata": {"source": "ruler_qa1_197K"},
    }
    (tmp_path / "rows.json").write_text(json.dumps([row, row]))
    return tmp_path / "rows.json"


def test_tokens_are_what_the_methods_would_read(rows: Path) -> None:
    meter = Meter("embedded")
    request = check(
        Request(("vanilla", "bm25-rag", "token-write"), rows=str(rows), windows=(16,), controls=False)
    )
    table = estimate(request, meter, 1.0)
    keys = [column.key for column in table.columns]
    found = {
        row[1].value: {key: cell.value for key, cell in zip(keys, row, strict=True)} for row in table.rows
    }
    prompts = "Use the documents above to answer in a few words.\nQuestion: {}\nAnswer:"
    asked = sum(meter.length(prompts.format(text)) + 50 for text in ("which ?", "and the next one ?"))
    context = meter.length("one two three\n" * 40)
    assert found["vanilla"]["read"] == 2 * (asked + 16)
    assert found["bm25-rag"]["read"] == 2 * (asked + 2 * 16)
    assert (found["vanilla"]["written"], found["token-write"]["written"]) == (0, 2 * context)
    everything = found["all"]
    assert (everything["cells"], everything["contexts"], everything["questions"]) == (3, 6, 12)
    tokens = everything["written"] + everything["read"]
    assert everything["hours"] == pytest.approx(2 * meter.shape.parameters * tokens / 1e12 / 3600)


def test_no_more_is_read_than_the_positions_hold(rows: Path) -> None:
    meter = Meter("embedded")
    read = []
    for positions, window in ((50, 10**6), (50, 20)):
        meter.positions = positions
        request = check(Request(("vanilla",), rows=str(rows), windows=(window,), controls=False))
        table = estimate(request, meter, 1.0)
        read.append(table.rows[0][[column.key for column in table.columns].index("read")].value)
    assert read[0] - read[1] == 2 * (50 - 20)  # of two contexts


def test_a_dry_run_writes_nothing_and_a_suite_runs_its_tasks(tmp_path: Path) -> None:
    done = cli(
        "--method", "vanilla", "--suite", "embedded", "--dry-run", "--limit", 1, "--json", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"][-1]["method"]["value"] == "all"
    assert list(tmp_path.iterdir()) == []
    done = cli(
        "--method", "vanilla", "--suite", "embedded", "--limit", 1, "--quiet", "--out", "out", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "embedded" / "run.json").is_file()
    assert "Averages" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--suite", "embeded"), "unknown suite 'embeded': did you mean embedded?"),
        (("--suite", "embedded", "--task", "rows"), "--suite names its tasks"),
        (("--suite", "locomo", "--task-option", "pth=x"), "unknown task option 'pth'"),
        (("--suite", "locomo"), "give --task-option path="),
        (("--dry-run", "--tflops", "0"), "--tflops must be a number above 0"),
        (("--dry-run", "--model", "no/such"), "cannot load the tokenizer and config of 'no/such'"),
    ],
)
def test_bad_input(arguments: tuple[str, ...], words: str, tmp_path: Path) -> None:
    done = cli("--method", "vanilla", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_options_go_to_the_task_they_name() -> None:
    part = Part("locomo", {"context": "whole"})
    known = {"path": "", "context": "whole", "categories": ""}
    given = {"locomo.path": "a.json", "hotpotqa.path": "b.json", "categories": "1", "protocol": "official"}
    assert options_of(part, given, known) == {"context": "whole", "path": "a.json", "categories": "1"}
    assert {"embedded", "memory-agent-bench", "test-time-learning", "locomo", "paper"} == set(SUITES)
