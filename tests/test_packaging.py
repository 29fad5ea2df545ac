"""What is packaged is what is there, and the arrows between the rooms point one way."""

import re
import tomllib
from pathlib import Path

import pytest

from shared import ROOT

ROOMS = {
    "harness": "",
    "methods": ".methods",
    "tasks": ".tasks",
    "reports": ".reports",
    "results": ".results",
}


def test_every_folder_of_code_is_packaged() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = set()
    for room, name in ROOMS.items():
        for file in (ROOT / room).rglob("*.py"):
            inner = file.parent.relative_to(ROOT / room).parts
            found.add(".".join(["deltamem_eval" + name, *inner]))
    assert set(listed) == found


@pytest.mark.parametrize(
    ("room", "banned"),
    [
        ("methods", r"deltamem_eval\.(tasks|runner|reports|session|cli)"),
        ("tasks", r"deltamem_eval\.(methods|runner|reports|session|cli)"),
        ("reports", r"deltamem_eval\.(methods|tasks|runner|backbone)"),
    ],
)
def test_imports_point_one_way(room: str, banned: str) -> None:
    pattern = re.compile(rf"^\s*(?:from|import) {banned}", re.MULTILINE)
    users = [str(file) for file in (ROOT / room).rglob("*.py") if pattern.search(file.read_text())]
    assert users == []


def test_files_stay_readable() -> None:
    long = {
        str(file.relative_to(ROOT)): count
        for room in ROOMS
        for file in (ROOT / room).rglob("*.py")
        if (count := file.read_text().count("\n")) > 400
    }
    assert long == {}


def test_the_tables_of_the_readme_s_commands_exist() -> None:
    text = (ROOT / "README.md").read_text()
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for name in re.findall(r"\bmake ([a-z]+)", text):
        assert name in targets
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / link).exists(), link
    assert isinstance(Path(ROOT / "LICENSE").read_text(), str)


def test_shipped_weights_fit_the_wheel_and_hold_no_pickle() -> None:
    weights = ROOT / "tasks" / "embedded" / "weights"
    files = [file for file in weights.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 15_000_000
    assert {file.suffix for file in files} <= {".safetensors", ".json", ".jsonl", ".md"}
    for name in ("token-write", "sequence-write", "multi-write"):
        assert (weights / name / "delta_mem_adapter.safetensors").is_file()
        assert (weights / name / "train_log.jsonl").is_file()
