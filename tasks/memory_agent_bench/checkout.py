"""A local checkout of the benchmark's code: its templates and its commit, read without running any of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from deltamem_eval.errors import UserError
from deltamem_eval.tasks.memory_agent_bench.hub import CODE
from deltamem_eval.tasks.memory_agent_bench.literals import read_constant
from deltamem_eval.tasks.memory_agent_bench.templates import OfficialPrompts, check_templates

TEMPLATES_FILE = Path("utils") / "templates.py"
TEMPLATES_NAME = "BASE_TEMPLATES"
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def read_checkout(folder: Path) -> OfficialPrompts:
    """The templates of a checkout, checked, with its commit.

    Raises UserError for a folder without them, and for templates that cannot be read or are refused.
    """
    file = folder / TEMPLATES_FILE
    if not file.is_file():
        raise UserError(f"{folder} holds no {TEMPLATES_FILE}: give a checkout of {CODE}")
    return OfficialPrompts(check_templates(read_constant(file, TEMPLATES_NAME), str(file)), head_of(folder))


def head_of(folder: Path) -> str | None:
    """The commit a checkout is at, from the files git keeps; None where they do not tell."""
    place = _git_folder(folder)
    head = _read(place / "HEAD")
    if head.startswith("ref:"):
        head = next(_values_of(head.removeprefix("ref:").strip(), place), "")
    return head if _COMMIT.fullmatch(head) else None


def _git_folder(folder: Path) -> Path:
    """`.git`, or the folder that a file of this name points to, as it does in a worktree."""
    place = folder / ".git"
    pointer = _read(place) if place.is_file() else ""
    return folder / pointer.removeprefix("gitdir:").strip() if pointer.startswith("gitdir:") else place


def _values_of(name: str, place: Path) -> Iterator[str]:
    """What a reference stands for, loose before packed, a worktree's own before the shared ones."""
    places = [place, place / (_read(place / "commondir") or ".")]
    yield from (value for value in (_read(item / name) for item in places) if value)
    for item in places:
        for line in _read(item / "packed-refs").splitlines():
            commit, _, packed = line.partition(" ")
            if packed == name:
                yield commit


def _read(file: Path) -> str:
    """A small text file, stripped; empty where it is none or cannot be read."""
    try:
        return file.read_text(encoding="utf-8").strip() if file.is_file() else ""
    except (OSError, ValueError):
        return ""
