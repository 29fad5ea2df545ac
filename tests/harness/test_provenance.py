"""Which code a run says it was made with: of the code that runs, wherever the command is given."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from deltamem_eval import provenance
from deltamem_eval.errors import UserError
from deltamem_eval.hashing import hash_json, sha256_of
from deltamem_eval.profiling.sweep import _provenance
from deltamem_eval.provenance import code_facts, code_folders, hash_code
from deltamem_eval.store import RunStore, read_run

from shared import ROOT


@pytest.fixture(autouse=True)
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the tests themselves are run with."""
    monkeypatch.delenv("DELTAMEM_EVAL_COMMIT", raising=False)


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", "-C", str(folder), *who, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def write_code(harness: Path, methods: Path) -> None:
    for file, text in ((harness / "provenance.py", "a = 1\n"), (methods / "memory.py", "b = 2\n")):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@pytest.fixture
def checkout(tmp_path: Path) -> dict[str, Path]:
    """Folders of code in a repository, in place."""
    if shutil.which("git") is None:
        pytest.skip("no git here")
    root = tmp_path.resolve() / "checkout"
    folders = {"": root / "harness", "methods": root / "methods"}
    write_code(*folders.values())
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "first")
    return folders


def test_code_in_a_repository_has_its_commit_wherever_the_command_is_given(
    checkout: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = checkout[""].parent
    commit = git(root, "rev-parse", "HEAD")
    monkeypatch.chdir(tmp_path)
    first = code_facts(checkout)
    assert (first["commit"], first["dirty"]) == (commit, False)
    (root / "README.md").write_text("not code")
    git(root, "add", "README.md")
    assert code_facts(checkout) == first
    (checkout["methods"] / "memory.py").write_text("b = 3\n")
    changed = code_facts(checkout)
    assert (changed["commit"], changed["dirty"]) == (commit, True)
    assert changed["code"] != first["code"]


def test_a_repository_around_an_installation_is_not_its_own(checkout: dict[str, Path]) -> None:
    """As a virtual environment inside a project: git ignores it, and the project's commit says nothing."""
    root = checkout[""].parent
    (root / ".gitignore").write_text(".venv\n")
    installed = root / ".venv" / "site-packages" / "deltamem_eval"
    write_code(installed, installed / "methods")
    found = code_facts({"": installed, "methods": installed / "methods"})
    assert found == {"commit": None, "dirty": None, "code": hash_code(checkout)}


def test_a_hash_knows_names_and_contents_of_python_files_alone(tmp_path: Path) -> None:
    write_code(tmp_path, tmp_path / "methods")
    whole = hash_code({"": tmp_path})
    expected = {name: sha256_of(tmp_path / name) for name in ("provenance.py", "methods/memory.py")}
    assert whole == hash_json(expected)
    (tmp_path / "notes.txt").write_text("x")
    assert hash_code({"": tmp_path}) == whole
    (tmp_path / "methods" / "memory.py").rename(tmp_path / "memory.py")
    assert hash_code({"": tmp_path}) != whole


def test_the_package_s_own_code_is_found_in_all_its_rooms() -> None:
    folders = code_folders()
    assert set(folders) == {"", "methods", "tasks", "reports", "results"}
    assert (folders[""] / "interface.py").is_file()
    assert (folders["methods"] / "delta_mem" / "memory.py").is_file()


COMMIT = 40 * "c"


@pytest.mark.parametrize(
    ("told", "found"), [(COMMIT, (COMMIT, False)), (f"{COMMIT}-dirty", (COMMIT, True)), ("", (None, None))]
)
def test_an_installation_without_a_repository_has_the_commit_that_the_environment_tells(
    told: str, found: tuple[str | None, bool | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DELTAMEM_EVAL_COMMIT", told)
    write_code(tmp_path, tmp_path / "methods")
    folders = {"": tmp_path, "methods": tmp_path / "methods"}
    facts = code_facts(folders)
    assert (facts["commit"], facts["dirty"]) == found
    assert facts["code"] == hash_code(folders)


def test_the_environment_says_nothing_of_code_in_a_repository(
    checkout: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = code_facts(checkout)
    monkeypatch.setenv("DELTAMEM_EVAL_COMMIT", f"{COMMIT}-dirty")
    assert code_facts(checkout) == own
    assert own["commit"] not in (None, COMMIT)


@pytest.mark.parametrize("told", ["main", f"{COMMIT}-changed", f"{COMMIT} ", "-dirty"])
def test_an_environment_that_tells_no_commit_is_refused(
    told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DELTAMEM_EVAL_COMMIT", told)
    write_code(tmp_path, tmp_path / "methods")
    with pytest.raises(UserError, match="DELTAMEM_EVAL_COMMIT is a commit's hash"):
        code_facts({"": tmp_path})


def test_make_results_tells_the_tree_s_commit_and_whether_it_differs(tmp_path: Path) -> None:
    """With a stand-in for the command that notes what it is told, and ends the target there."""
    if shutil.which("git") is None or shutil.which("make") is None:
        pytest.skip("no git or no make here")
    root, told = tmp_path / "tree", tmp_path / "told"
    write_code(root / "harness", root / "methods")
    for name in ("pyproject.toml", "constraints.txt", "README.md"):
        (root / name).write_text("")
    shutil.copy(ROOT / "Makefile", root)
    (root / ".gitignore").write_text(".venv\n")
    for arguments in (("init", "-q"), ("add", "."), ("commit", "-q", "-m", "first")):
        git(root, *arguments)
    command = root / ".venv" / "bin" / "deltamem-eval"
    command.parent.mkdir(parents=True)
    command.write_text(f'#!/bin/sh\nprintf %s "$DELTAMEM_EVAL_COMMIT" > {told}\nexit 1\n')
    command.chmod(0o755)
    commit = git(root, "rev-parse", "HEAD")
    for file, wanted in (("README.md", commit), ("methods/memory.py", f"{commit}-dirty")):
        (root / file).write_text("c = 3\n")
        (root / ".venv" / ".installed").touch()
        assert subprocess.run(["make", "results"], check=False, cwd=root, capture_output=True).returncode != 0
        assert told.read_text() == wanted


class Installed:
    """A distribution as `importlib.metadata` tells of it."""

    def __init__(self, place: Path, noted: str | None) -> None:
        self._place, self._noted = place, noted

    def locate_file(self, name: str) -> Path:
        return self._place / name

    def read_text(self, _: str) -> str | None:
        return self._noted


@pytest.mark.parametrize(
    ("noted", "elsewhere", "commit"),
    [
        (
            json.dumps({"url": "https://x", "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}}),
            False,
            "c0ffee",
        ),
        (json.dumps({"url": "https://x", "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}}), True, None),
        (json.dumps({"url": "file:///x", "dir_info": {}}), False, None),
        ("[", False, None),
        (None, False, None),
    ],
)
def test_an_installation_from_a_repository_has_the_commit_pip_noted(
    noted: str | None, elsewhere: bool, commit: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path.resolve() / "deltamem_eval"
    write_code(home, home / "methods")
    place = tmp_path / "other" if elsewhere else tmp_path
    monkeypatch.setattr(provenance, "distribution", lambda _: Installed(place, noted))
    found = code_facts({"": home})
    assert (found["commit"], found["dirty"]) == (commit, None)


def test_runs_and_profiles_tell_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even from a folder that looks like a checkout of this project and is none."""
    monkeypatch.chdir(tmp_path)
    write_code(tmp_path / "harness", tmp_path / "methods")
    (tmp_path / "harness" / "interface.py").touch()
    own = code_facts()
    for told in (provenance.provenance("CPU"), _provenance({"device": "CPU", "model": "m"})):
        assert {name: told[name] for name in own} == own
        assert told["code"] == hash_code(code_folders())


def test_going_on_with_other_code_is_recorded(tmp_path: Path) -> None:
    def work(**told: Any) -> None:
        store = RunStore.open(tmp_path / "run", {"a": 1}, {"device": "CPU", **told})
        store.note_worker("local", {"device": "CPU"})
        store.close()

    work(code="one", commit="c0ffee", dirty=False, versions={"torch": "2"})
    work(code="two", commit=None, dirty=None, versions={"torch": "3"})
    record = read_run(tmp_path / "run")
    assert (record.code, record.commit, record.versions) == ("one", "c0ffee", {"torch": "2"})
    found = [(item.code, item.commit, item.dirty, item.versions) for item in record.executions]
    assert found == [("one", "c0ffee", False, {"torch": "2"}), ("two", None, None, {"torch": "3"})]


def test_a_run_from_before_still_loads_and_goes_on(tmp_path: Path) -> None:
    RunStore.open(tmp_path / "run", {"a": 1}, {}).close()
    file = tmp_path / "run" / "run.json"
    value = json.loads(file.read_text())
    del value["code"]
    value["executions"] = [{"executor": "local", "workers": [], "began": "then"}]
    file.write_text(json.dumps(value))
    store = RunStore.open(tmp_path / "run", {"a": 1}, {"code": "two"})
    store.note_worker("local", {"device": "CPU"})
    store.close()
    assert [item.code for item in read_run(tmp_path / "run").executions] == [None, "two"]
