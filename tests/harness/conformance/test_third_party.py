"""The documentation's example, installed as a package of its own, is listed, checked and run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import tiny_backbone

from shared import ROOT


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of site-packages with the example in it, and a model."""
    root = tmp_path_factory.mktemp("third-party")
    source = shutil.copytree(ROOT / "docs" / "example_method", root / "source")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--target", str(root / "site"), str(source)], check=True)
    backbone = tiny_backbone(positions=1024)
    backbone.model.save_pretrained(root / "model")
    backbone.tokenizer.save_pretrained(root / "model")
    return root


def cli(place: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deltamem_eval.cli.main", *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": str(place / "site"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=place, env=env)


def test_it_is_listed_with_its_package(place: Path) -> None:
    rows = json.loads(cli(place, "list", "methods", "--json").stdout)
    (row,) = [row for row in rows if row["name"] == "last-lines"]
    assert (row["package"], row["error"]) == ("last-lines", None)


def test_it_keeps_every_promise(place: Path) -> None:
    done = cli(place, "check", "last-lines", "--model", place / "model")
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(line.split(maxsplit=1)[1] == "ok" for line in done.stdout.splitlines())


def test_it_stands_in_the_table(place: Path) -> None:
    row = {
        "context": "fact 1 is 7.\nfact 2 is 9.\n",
        "questions": ["fact 1?"],
        "answers": [["7"]],
        "metadata": {"source": "factconsolidation_sh_6k", "qa_pair_ids": ["a"]},
    }
    (place / "rows.json").write_text(json.dumps([row]))
    done = cli(
        place, "run", "--method", "last-lines", "--model", "model", "--rows", "rows.json",
        "--window", 20, "--option", "most=1", "--no-controls", "--quiet", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["rows"]
    assert (row["method"]["value"], row["not_ok"]["value"]) == ("last-lines", "0")


def test_it_is_as_short_as_promised() -> None:
    code = (ROOT / "docs" / "example_method" / "last_lines.py").read_text().splitlines()
    start = code.index("class LastLines(MemoryMethod):")
    assert len(code) - start < 60
