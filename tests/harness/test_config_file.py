"""`--config FILE.toml`: options from a file, under the command line and over the defaults."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from deltamem_eval.cli.main import app
from deltamem_eval.errors import UserError

ENTRY = [sys.executable, "-m", "deltamem_eval.cli.main"]
ENV = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
WHOLE = """
method = ["vanilla", "bm25-rag"]
window = [0, 64]
seeds = [0, 1]
limit = 2
no-controls = true
batch_size = "auto"
timeout = 2.5
[option]
summaries = "none"
weight = 0
[task-option]
path = "a b"
"""


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch):
    """Called with `run`'s arguments: the request they make, which is stopped before it is checked."""

    def request(*arguments: object):
        import deltamem_eval.cli.run as module

        made = []

        def stop(asked, suite):
            made.append(asked)
            raise UserError("stopped")

        monkeypatch.setattr(module, "_check_options", lambda asked: None)
        monkeypatch.setattr(module, "_checked", stop)
        with pytest.raises(UserError, match="stopped"):
            app(["run", *map(str, arguments)], standalone_mode=False)
        return made[0]

    return request


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "run.toml").write_text(WHOLE)
    return tmp_path / "run.toml"


def test_a_file_says_what_the_command_line_would(given, file: Path) -> None:
    options = ["--option", "summaries=none", "--option", "weight=0", "--task-option", "path=a b"]
    lists = ["--method", "vanilla,bm25-rag", "--window", "0,64", "--seeds", "0,1"]
    words = [*lists, "--limit", "2", "--no-controls", "--timeout", "2.5"]
    assert given("--config", file) == given(*words, *options)


def test_the_command_line_goes_before_the_file_and_the_file_before_defaults(given, file: Path) -> None:
    for order in (["--config", file, "--seeds", "5"], ["--seeds", "5", "--config", file]):
        request = given(*order)
        assert request.seeds == (5,)
        assert (request.windows, request.limit, request.model) == ((0, 64), 2, "embedded")


def test_settings_go_before_the_file_s_name_by_name(given, file: Path) -> None:
    more = ["--option", "weight=1", "--task-option", "categories=2"]
    for order in (["--config", file, *more], [*more, "--config", file]):
        request = given(*order)
        assert request.options == {"summaries": "none", "weight": 1}
        assert request.task_options == {"path": "a b", "categories": 2}


def test_the_same_request_goes_to_the_same_folder(given, file: Path, tmp_path: Path) -> None:
    plain = given("--method", "vanilla", "--seeds", "3")
    (tmp_path / "other.toml").write_text('method = "vanilla"\nseeds = 3\n')
    assert given("--config", tmp_path / "other.toml").default_folder() == plain.default_folder()


WRONG = {
    "unknown key": ('methd = "vanilla"', "unknown option in bad.toml 'methd': did you mean method"),
    "config in itself": ('config = "a"', "unknown option in bad.toml 'config'"),
    "no TOML": ("method = vanilla", "--config bad.toml is no TOML"),
    "switch": (
        'method = "vanilla"\nno-controls = "yes"',
        "no-controls in bad.toml is a switch: true or false",
    ),
    "truth of a number": ('method = "vanilla"\nlimit = true', "limit in bad.toml takes a text or a number"),
    "table": ('[method]\na = "vanilla"', "method in bad.toml takes no table"),
    "not a number": ('method = "vanilla"\nlimit = "many"', "--limit"),
    "list in a list": ("window = [[0]]", "window in bad.toml takes a text or a number, not [0]"),
    "two spellings": ("batch-size = 1\nbatch_size = 2", "bad.toml gives batch-size twice"),
    "two tables": ("[task-option]\na = 1\n[task_option]\nb = 2", "bad.toml gives task-option twice"),
    "name twice": (
        'method = "vanilla"\noption = ["a=1", "a=2"]',
        "--option gives a twice",
    ),
    "empty list": ('method = "vanilla"\nwindow = []', "window in bad.toml is an empty list"),
    "empty windows": ('method = "vanilla"\nwindow = [""]', "--window names no window"),
    "bytes": (b"\xff\xfe", "--config bad.toml is no TOML"),
    "no method": ("seeds = 1", "Missing option '--method'"),
}


def cli(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*ENTRY, *arguments], capture_output=True, text=True, env=ENV, cwd=cwd, check=False)


@pytest.mark.parametrize("name", WRONG)
def test_what_a_file_cannot_say_is_one_line(name: str, tmp_path: Path) -> None:
    text, words = WRONG[name]
    (tmp_path / "bad.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    before = sorted(tmp_path.rglob("*"))
    done = cli("run", "--config", "bad.toml", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert words in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    done = cli("run", "--config", "none.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "error: --config none.toml cannot be read: No such file or directory\n"


def test_training_takes_a_file_too(tmp_path: Path) -> None:
    (tmp_path / "train.toml").write_text('model = "embedded"\ndata = "rows.json"\nout = "o"\nlr = "nan"\n')
    (tmp_path / "rows.json").write_text(json.dumps([]))
    done = cli("train", "token-write", "--config", "train.toml", cwd=tmp_path)
    assert (done.returncode, "--lr" in done.stderr) == (2, True), done.stderr
