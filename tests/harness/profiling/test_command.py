"""The command itself: one profile from end to end, and mistakes that end it before anything is written."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from deltamem_eval.profiling.store import read_profile
from profiled import config_file

from stored import assert_published

ENTRY = [sys.executable, "-m", "deltamem_eval.cli.main", "profile"]
ENV = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
ADDRESSES = 12 << 30  # bytes a process may ask for; less than the tensor below needs


def cli(*arguments: object, cwd: Path, limit: int | None = None) -> subprocess.CompletedProcess[str]:
    def narrow() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    command = [*ENTRY, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, env=ENV, cwd=cwd, check=False, preexec_fn=narrow
    )


def test_a_profile_in_which_a_point_runs_out_of_memory(tmp_path: Path) -> None:
    """With so wide a feed-forward 4,096 tokens need tensors of 16 GiB, and 8 tokens do not."""
    config = config_file(tmp_path, intermediate_size=1 << 20, hidden_size=4, num_hidden_layers=1)
    asked = ["--method", "vanilla", "--random-weights", config, "--prompt-lengths", "8,4k", "--decode", 4]
    done = cli(*asked, "--device", "cpu", "--out", "made", "--json", cwd=tmp_path, limit=ADDRESSES)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert [row["status"]["value"] for row in rows] == ["ok", "oom"]
    assert [row["prompt_tokens"]["value"] for row in rows] == [8, 4096]
    weights = 4 * (3 * 4 << 20)
    assert rows[0]["weights_bytes"]["value"] == pytest.approx(weights, rel=0.01)
    assert rows[0]["peak_bytes"]["value"] > rows[0]["resident_bytes"]["value"] > weights
    assert rows[0]["prefill_seconds"]["n"] == 3
    assert rows[1]["peak_bytes"]["value"] is None
    assert read_profile(tmp_path / "made")[0].facts["random"] == ["the backbone"]
    assert_published(tmp_path / "made", "profile", "point")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompt-lengths", "1k,foo"], "not 'foo'"),
        (["--prompt-lengths", "0"], "not '0'"),
        (["--random-weights", "embedded", "--model", "other"], "leave one out"),
        (["--timeout", "0"], "--timeout must be a number above 0"),
        (["--modes", "state-only"], "vanilla has no state-only mode"),
    ],
)
def test_mistakes_seen_at_once(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = cli("--method", "vanilla", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
