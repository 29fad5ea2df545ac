"""Cells on ray's workers: a node killed in mid-run, workers that die, runs that one executor began and the
other ends. The command line runs in a process of its own, connected to the cluster by its address.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from deltamem_eval.errors import UserError
from deltamem_eval.executors import open_executor
from ray_clusters import NODE, cluster, deadly_plugin, needs_ray
from runs_alike import METHODS, asked_again, cut_off, ends, prompts, run_here, run_out_of_time, small

from stored import stored_samples

needs_ray()
COMMAND = [sys.executable, "-m", "deltamem_eval.cli.main", "run", "--device", "cpu", "--json"]


def start(address: str, out: Path, *more: object) -> subprocess.Popen[str]:
    options = ["--executor", "ray", "--address", address, "--workers", 2, "--out", out, *more]
    command = [*COMMAND, *map(str, options)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )


def end(process: subprocess.Popen[str]) -> tuple[Any, str]:
    """The table and what was said on standard error, of a run that ended well."""
    out, said = process.communicate(timeout=150)
    assert process.returncode == 0, said
    return json.loads(out), said


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    for _ in range(6000):
        if condition():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    raise AssertionError("the run made no progress")


def workers(run: Path) -> int:
    """How many took part so far."""
    file = run / "run.json"
    executions = json.loads(file.read_text())["executions"] if file.exists() else []
    return len(executions[-1]["workers"]) if executions else 0


def lines(run: Path) -> int:
    return sum(file.read_bytes().count(b"\n") for file in run.glob("cells/*/samples.jsonl"))


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A cluster of two nodes whose workers know the method `deadly`."""
    plugin = deadly_plugin(tmp_path_factory.mktemp("plugin"))
    with pytest.MonkeyPatch.context() as patch, cluster(2, patch, plugin) as made:
        yield made


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_here(small(), tmp_path_factory.mktemp("whole") / "run")


def test_what_one_executor_began_the_other_ends(nodes: Any, whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    cut_off(run)
    asked = ("--method", "vanilla,token-write", "--limit", 1, "--batch-size", 3)
    _, said = end(start(nodes.address, run, *asked, "--quiet"))
    assert said == ""
    assert stored_samples(run) == stored_samples(whole)
    assert prompts(run) == prompts(whole)
    assert ends(run) == ends(whole)
    told = json.loads((run / "run.json").read_text())["executions"]
    assert [execution["executor"] for execution in told] == ["local", "ray"]
    cut_off(run)
    run_here(small(), run)
    assert stored_samples(run) == stored_samples(whole)
    assert ends(run) == ends(whole)


def test_what_ran_out_of_less_time_is_asked_again(nodes: Any, whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    late = run_out_of_time(run, 1.0)
    asked = ("--method", "vanilla,token-write", "--limit", 1, "--batch-size", 3, "--timeout", 600)
    _, said = end(start(nodes.address, run, *asked))
    assert "asked again, with 600 s" in said
    assert asked_again(run) == late > 0
    assert stored_samples(run) == stored_samples(whole)
    assert prompts(run) == prompts(whole)


def test_a_method_that_ends_its_worker_fails_its_own_questions(nodes: Any, tmp_path: Path) -> None:
    row = {
        "questions": ["What is fact 1?", "What is fact 2?"],
        "metadata": {"source": "factconsolidation_sh_6k", "qa_pair_ids": ["a", "b"]},
        "answers": [["1"], ["2"]],
    }
    contexts = [f"fact 1 of {number} is 1.\nfact 2 of {number} is 2.\n" for number in range(3)]
    (tmp_path / "rows.json").write_text(json.dumps([{**row, "context": text} for text in contexts]))
    run = tmp_path / "run"
    asked = ("--method", "deadly,vanilla", "--rows", tmp_path / "rows.json", "--no-controls")
    table, said = end(start(nodes.address, run, *asked))
    assert {row["method"]["value"]: row["not_ok"]["value"] for row in table["rows"]} == {
        "deadly": "2 failed",
        "vanilla": "0",
    }
    failed = [sample for sample in stored_samples(run).values() if sample["status"] == "failed"]
    assert {sample["episode"] for sample in failed} == {"rows/1"}
    assert all(sample["error"].startswith("3 workers were lost with it") for sample in failed)
    assert said.count("was lost") == 3


def test_a_users_mistake_is_one_line(nodes: Any, tmp_path: Path) -> None:
    process = start(nodes.address, tmp_path / "run", "--method", "token-write", "--adapter", tmp_path)
    out, said = process.communicate(timeout=100)
    assert (process.returncode, out, said.count("\n")) == (2, "", 1), said
    assert "no weights in" in said
    assert not (tmp_path / "run").exists()


def test_a_node_killed_in_mid_run_loses_and_doubles_nothing(nodes: Any, tmp_path: Path) -> None:
    run, request = tmp_path / "run", small(limit=3, batch_size=1)
    wanted = run_here(request, tmp_path / "whole")
    process = start(nodes.address, run, "--method", ",".join(METHODS), "--limit", 3, "--batch-size", 1)
    wait_for(lambda: workers(run) == 2, process)
    reached = lines(run)
    wait_for(lambda: lines(run) > reached + 20, process)
    at_the_kill = lines(run)
    nodes.remove_node(nodes.worker_nodes.copy().pop(), allow_graceful=False)
    table, said = end(process)
    nodes.add_node(**NODE)
    assert at_the_kill < len(stored_samples(wanted)), "the run was over before the node was killed"
    assert "was lost" in said
    assert all(row["not_ok"]["value"] == "0" for row in table["rows"])
    assert stored_samples(run) == stored_samples(wanted)
    assert prompts(run) == prompts(wanted)
    assert ends(run) == ends(wanted)


@pytest.mark.parametrize(
    ("address", "words"),
    [("127.0.0.1:9", "no ray cluster at"), ("somewhere", "--address is auto, HOST:PORT")],
)
def test_an_address_without_a_cluster_is_refused(address: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        open_executor("ray", address)
