"""Misused commands, an ASCII terminal, and Ctrl-C: one line, the right exit code, no traceback."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from interrupts import start

ENTRY = [sys.executable, "-m", "deltamem_eval.cli.main"]
ENV = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
ROW = {
    "context": "1. fact 1 is 2.\n",
    "questions": ["What is fact 1?"],
    "answers": [["2"]],
    "metadata": {"source": "factconsolidation_sh_6k", "qa_pair_ids": ["a"]},
}


def cli(*arguments: object, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ENTRY, *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        env={**ENV, **env},
        cwd=cwd,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("")
    (tmp_path / "rows.json").write_text(json.dumps([ROW]))
    (tmp_path / "papers.json").write_text("{}")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    return tmp_path


TRAIN = ["train", "token-write", "--model", "embedded", "--data", "rows.json"]
JUDGE = ["judge", "run", "--judge", "http://127.0.0.1:9/v1", "--judge-model", "m"]
MISUSE = {
    "missing option": (["run"], "Missing option '--method'"),
    "missing argument": (["compare", "a"], "Missing argument 'B'"),
    "number that is none": (["run", "--method", "vanilla", "--limit", "a"], "--limit"),
    "unknown command": (["rnu"], "Did you mean 'run'"),
    "unknown option": (["list", "--jsn"], "No such option: --jsn"),
    "no module": (["check", "no_such_module:Method"], "cannot import no_such_module:Method"),
    "no method": (["check", "json:JSONDecoder"], "json:JSONDecoder is no MemoryMethod"),
    "page of parameters": (["params", "--out", "p", "--format", "html"], "leave html out"),
    "bootstrap seed": (["compare", "run", "run", "--bootstrap-seed", "-1"], "--bootstrap-seed"),
    "judge's patience": ([*JUDGE, "--timeout", "0"], "--timeout"),
    "run's patience": (["run", "--method", "vanilla", "--timeout", "nan"], "--timeout"),
    "point's patience": (["profile", "--method", "vanilla", "--timeout", "nan"], "--timeout"),
    "judge's long patience": ([*JUDGE, "--timeout", "1e10"], "at most 2,000,000 seconds"),
    "run's long patience": (["run", "--method", "vanilla", "--timeout", "1e10"], "at most 2,000,000 seconds"),
    "point's long patience": (
        ["profile", "--method", "vanilla", "--timeout", "2592000"],
        "at most 2,000,000 seconds, not 2592000",
    ),
    "seed twice": (["run", "--method", "vanilla", "--seeds", "0,1,0"], "--seeds names 0 2 times"),
    "window twice": (["run", "--method", "vanilla", "--window", "8,8"], "--window names 8 2 times"),
    "window without a number": (["run", "--method", "vanilla", "--window", ""], "--window names no window"),
    "window of commas": (["run", "--method", "vanilla", "--window", ","], "--window names no window"),
    "option twice": (
        ["run", "--method", "bm25-rag", "--option", "top_k=1", "--option", "top_k=2"],
        "--option gives top_k twice",
    ),
    "task option twice": (
        ["run", "--method", "vanilla", "--task-option", "a=1", "--task-option", "a=1"],
        "--task-option gives a twice",
    ),
    "protocol twice": (
        ["run", "--method", "vanilla", "--protocol", "official", "--task-option", "protocol=isolated"],
        "--protocol and --task-option protocol= are one setting",
    ),
    "profile's option twice": (
        ["profile", "--method", "bm25-rag", "--option", "top_k=1", "--option", "top_k=2"],
        "--option gives top_k twice",
    ),
    "method twice": (["run", "--method", "vanilla,vanilla"], "--method names vanilla 2 times"),
    "adapter for none": (["run", "--method", "vanilla", "--adapter", "run"], "vanilla loads none"),
    "checked adapter for none": (["check", "vanilla", "--adapter", "run"], "vanilla loads none"),
    "adapter for two": (
        ["run", "--method", "token-write,multi-write", "--adapter", "run"],
        "--adapter serves one trained method",
    ),
    "rows in a folder": (["run", "--method", "vanilla", "--rows", "run"], "run is a folder: --rows takes"),
    "protocol of no task": (
        ["run", "--method", "vanilla", "--protocol", "official"],
        "--protocol is for MemoryAgentBench's rows",
    ),
    "prompts of no task": (
        ["run", "--method", "vanilla", "--task", "locomo", "--prompts", "own"],
        "--prompts is for MemoryAgentBench's rows",
    ),
    "no mode": (["profile", "--method", "vanilla", "--modes", ","], "no mode"),
    "learning rate": ([*TRAIN, "--out", "t", "--lr", "nan"], "--lr"),
    "training into a file": ([*TRAIN, "--out", "file", "--steps", "1"], "cannot write to file"),
    "papers into a folder": (["convert-qasper", "papers.json", "--out", "run"], "run is a folder"),
}


@pytest.mark.parametrize("name", MISUSE)
def test_misuse_is_one_line_and_exit_code_2(name: str, place: Path) -> None:
    arguments, words = MISUSE[name]
    before = sorted(place.rglob("*"))
    done = cli(*arguments, cwd=place)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert done.stderr.startswith("error: ")
    assert words in done.stderr
    assert sorted(place.rglob("*")) == before


def test_no_command_prints_the_help(tmp_path: Path) -> None:
    done = cli(cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "")
    assert "Commands" in done.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["params", "--model", "Qwen3-8B"]])
def test_an_ascii_terminal_gets_what_it_can_show(arguments: list[str], tmp_path: Path) -> None:
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    done = cli(*arguments, cwd=tmp_path, **plain)
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()


def test_ctrl_c_leaves_a_run_that_goes_on(tmp_path: Path) -> None:
    lines = "".join(f"{n}. fact {n} is {n * 7}.\n" for n in range(12))
    questions, answers = [f"What is fact {n}?" for n in range(60)], [["7"]] * 60
    metadata = {"source": "factconsolidation_sh_6k", "qa_pair_ids": [f"x{n}" for n in range(60)]}
    row = {"context": lines, "questions": questions, "answers": answers, "metadata": metadata}
    (tmp_path / "rows.json").write_text(json.dumps([row] * 4))
    job = [
        "run",
        "--method",
        "vanilla",
        "--rows",
        "rows.json",
        "--out",
        "run",
        "--batch-size",
        "1",
        "--quiet",
    ]
    process = start([*ENTRY, *job], env=ENV, cwd=tmp_path, stderr=subprocess.PIPE)
    while not list(tmp_path.glob("run/cells/*/samples.jsonl")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    assert process.stderr is not None
    assert process.stderr.read().startswith("stopped; ")
    assert cli(*job, cwd=tmp_path).returncode == 0


def test_a_reader_that_went_away_is_no_verdict(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*ENTRY, "list", "methods"],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        env=ENV,
        cwd=tmp_path,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")
